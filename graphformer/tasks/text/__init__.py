"""Objectives over text."""
