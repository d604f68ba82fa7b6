"""Leaks of a data set between its splits."""
