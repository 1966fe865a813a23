"""Device memory that does not suffice, as an error that names the flags which reduce it."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def explain_oom(message: str) -> Iterator[None]:
    """Turns a device's out-of-memory error inside the block into a ValueError with this message."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ValueError(message) from error
