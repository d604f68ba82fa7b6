"""Objectives over images."""
