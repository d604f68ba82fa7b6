"""Text data sets, tokenizers and packing."""
