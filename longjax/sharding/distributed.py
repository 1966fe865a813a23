"""Synchronization of the processes of several hosts."""

import jax
from jax.experimental import multihost_utils


def barrier(name: str) -> None:
    """Blocks until all processes reach the point of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
