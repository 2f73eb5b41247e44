"""Stage I, step 2: a probability for each of the 111 domains, by one of several methods."""
