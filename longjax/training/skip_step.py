"""Skips updates whose loss or gradient norm is not finite, or a spike above the recent mean."""

import jax
import jax.numpy as jnp
from flax import struct

WINDOW = 128  # recent steps that a spike is compared with (as OLMo and MaxText)
MIN_HISTORY = 16  # recent steps before any counts as a spike


class SkipStepState(struct.PyTreeNode):
    """Statistics of recent steps. W: the last WINDOW steps.

    Attributes:
      skipped: steps skipped so far.
      consecutive_skips: steps skipped since the last one that was applied.
      loss_W: loss of recent steps that were applied, NaN where there is none.
      norm_W: gradient norm of these steps, NaN where there is none.

    """

    skipped: jax.Array
    consecutive_skips: jax.Array
    loss_W: jax.Array
    norm_W: jax.Array

    @classmethod
    def new(cls) -> "SkipStepState":
        """Returns the state before the first step."""
        none_W = jnp.full(WINDOW, jnp.nan, jnp.float32)
        return cls(jnp.int32(0), jnp.int32(0), none_W, none_W)

    def should_apply(self, loss: jax.Array, norm: jax.Array, sigmas: float) -> jax.Array:
        """Returns whether to apply a step.

        Args:
          loss: of the step.
          norm: of its gradient.
          sigmas: standard deviations above the recent mean that count as a spike; 0: no spikes are skipped.

        """
        apply = jnp.isfinite(loss) & jnp.isfinite(norm)
        if sigmas:
            apply &= ~(above(loss, self.loss_W, sigmas) | above(norm, self.norm_W, sigmas))
        return apply

    def after(self, applied: jax.Array, step: jax.Array, loss: jax.Array, norm: jax.Array) -> "SkipStepState":
        """Returns the state after a step that was applied or skipped."""
        slot_W = applied & (jnp.arange(WINDOW) == step % WINDOW)
        return SkipStepState(
            self.skipped + (~applied).astype(jnp.int32),
            jnp.where(applied, 0, self.consecutive_skips + 1),
            jnp.where(slot_W, loss, self.loss_W),
            jnp.where(slot_W, norm, self.norm_W),
        )


def above(x: jax.Array, recent_W: jax.Array, sigmas: float) -> jax.Array:
    """Returns whether x is a spike: more than `sigmas` standard deviations above the mean of the recent values."""
    enough = jnp.isfinite(recent_W).sum() >= MIN_HISTORY
    return enough & (x > jnp.nanmean(recent_W) + sigmas * jnp.nanstd(recent_W))
