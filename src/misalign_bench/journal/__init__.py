"""The durable journal of model calls, and the run folder with its manifest around it."""
