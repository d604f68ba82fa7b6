"""Data sets of own files: tables, arrays, graphs of PyG and networkx, and PyG's data sets."""
