"""Prompt templates, one a file, with their loader; the hash of each goes into every result."""
