"""Shipped configurations and the demo's prompts."""
