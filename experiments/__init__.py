"""One command per method, with its cost and its published scores; and the commands `evaluate` and `study`."""
