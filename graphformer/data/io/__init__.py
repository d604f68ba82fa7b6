"""Raw files: download and cache folders, text files, JSON lines and tables."""
