"""Mis-Align Bench: measure models on safety, value and culture at once.

Stage I builds the SaVaCu data set from prompts; Stage II measures models, judges and guardrails
on it (arXiv 2602.11305). The command line is ``misalign-bench``; the packages are imported where
they are needed, so importing this one costs nothing.
"""

__version__ = "0.1.0"
