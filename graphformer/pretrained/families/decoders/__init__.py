"""Families of decoders: language models over causal patterns."""
