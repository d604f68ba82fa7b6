"""Graph data sets, samplers and encodings."""
