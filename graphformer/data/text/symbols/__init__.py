"""Sequences of symbols without a meaning, as tests of models."""
