"""Models behind one protocol: OpenAI-compatible, embedded, inspect and simulated providers."""
