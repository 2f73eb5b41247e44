"""Stage I: from prompts to SaVaCu."""
