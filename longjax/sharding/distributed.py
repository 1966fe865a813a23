"""Synchronisation of several hosts."""

import jax
from jax.experimental import multihost_utils


def barrier(what: str) -> None:
    """All hosts wait here for each other."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)
