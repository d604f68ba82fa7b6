"""Graphs larger than memory: converters to folders of .npy files, and stores that map these."""
