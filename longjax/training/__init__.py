"""Training: recipe, train step, trainer, checkpoints, metrics, schedules, rematerialization, FLOPs, memory estimate.

May import sharding, data and everything below them.
"""
