"""Objectives over several modalities."""
