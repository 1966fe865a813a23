"""Self-made evaluation data, one small file a benchmark. Each says which files it makes of a world."""
