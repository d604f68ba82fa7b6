"""Texts with facts: WordNet's files, graphs of words, entities and relations, descriptions."""
