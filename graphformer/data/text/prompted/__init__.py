"""Clozes for classification with soft labels, and prompts of many tasks."""
