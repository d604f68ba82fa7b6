"""Losses of preference and policy optimisation, as functions."""
