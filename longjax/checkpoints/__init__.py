"""Checkpoints in and out: Hugging Face, Meta, PEFT, torch and orbax. May import sharding, model and methods."""
