"""Graph data sets, samplers and structural encodings."""
