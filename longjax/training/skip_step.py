"""Steps that would do harm are left out: a loss or gradient that is no number, or far above what was seen lately."""

import jax
import jax.numpy as jnp
from flax import struct

WINDOW = 128  # steps that a spike is compared with (as OLMo and MaxText)
MIN_HISTORY = 16  # of them, before anything counts as a spike


class SkipStepState(struct.PyTreeNode):
    """What it remembers. W: the last WINDOW steps.

    Attributes:
      skipped: steps left out so far.
      streak: of these, the last ones in a row.
      loss_W, norm_W: loss and gradient norm of the steps that were taken, NaN where there are none yet.

    """

    skipped: jax.Array
    consecutive_skips: jax.Array
    loss_W: jax.Array
    norm_W: jax.Array

    @classmethod
    def new(cls) -> "SkipStepState":
        none_W = jnp.full(WINDOW, jnp.nan, jnp.float32)
        return cls(jnp.int32(0), jnp.int32(0), none_W, none_W)

    def should_apply(self, loss: jax.Array, norm: jax.Array, sigmas: float) -> jax.Array:
        """-> whether to take the step. With `sigmas`, neither number may be so many deviations above its mean."""
        fine = jnp.isfinite(loss) & jnp.isfinite(norm)
        if sigmas:
            fine &= ~(above(loss, self.loss_W, sigmas) | above(norm, self.norm_W, sigmas))
        return fine

    def after(self, taken: jax.Array, step: jax.Array, loss: jax.Array, norm: jax.Array) -> "SkipStepState":
        """-> the memory after this step."""
        here_W = taken & (jnp.arange(WINDOW) == step % WINDOW)
        return SkipStepState(
            self.skipped + (~taken).astype(jnp.int32),
            jnp.where(taken, 0, self.consecutive_skips + 1),
            jnp.where(here_W, loss, self.loss_W),
            jnp.where(here_W, norm, self.norm_W),
        )


def above(x: jax.Array, seen_W: jax.Array, sigmas: float) -> jax.Array:
    enough = jnp.isfinite(seen_W).sum() >= MIN_HISTORY
    return enough & (x > jnp.nanmean(seen_W) + sigmas * jnp.nanstd(seen_W))
