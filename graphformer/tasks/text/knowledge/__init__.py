"""Objectives over texts with facts: masked nodes of a graph, and embeddings of entities."""
