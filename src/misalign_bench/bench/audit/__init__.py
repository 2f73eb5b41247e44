"""Judging the judge: a sample for people, their labels, and what the labels say of the numbers."""
