"""Landmark attention: dense in training, and with a memory of blocks at inference. May import all of `attention`."""
