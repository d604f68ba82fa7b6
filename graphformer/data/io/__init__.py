"""Raw files: fetching, caching, text files and tables."""
