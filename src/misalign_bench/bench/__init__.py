"""Stage II: the benchmark: detect, metrics, statistics, results."""
