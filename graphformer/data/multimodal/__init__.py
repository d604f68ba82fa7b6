"""Data of several modalities in one graph: images with questions."""
