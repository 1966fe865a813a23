"""Position encoding: rotation (RoPE) and, for ALiBi, a bias that grows with distance.

Letters in names are axes: B batch, T queries, S keys, N query heads, K key heads, G = N/K, H head width,
R rotated pairs (at most H/2).
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from longjax.config import ModelConfig

Number = float | jax.Array


class AngleTable(Protocol):
    """The arithmetic of cosines and sines, as a frozen dataclass. Audits of other systems replace it."""

    def __call__(self, position_BT: jax.Array, freq: jax.Array, scale: Number) -> tuple[jax.Array, jax.Array]:
        """Compute cosines and sines.

        Args:
          position_BT: positions.
          freq: radians per position, [R] of one sequence or [B, 1, R] of each row.
          scale: factor of both results, a number or [B, 1, 1].

        Returns:
          cos_BTR, sin_BTR in float32.

        """
        ...


@dataclasses.dataclass(frozen=True)
class Float32:
    """Angles, cosines and sines in float32."""

    def __call__(self, position_BT, freq, scale):
        angle_BTR = position_BT[..., None].astype(jnp.float32) * freq
        return jnp.cos(angle_BTR) * scale, jnp.sin(angle_BTR) * scale


class Rope(struct.PyTreeNode):
    """Position encoding of one sequence or, made by `stack_ropes`, of each row of a batch.

    Attributes:
      inv_freq_R: radians per position of each pair. Fewer pairs than H/2 leave the rest of the head
        unrotated (Phi); none at all is NoPE, or ALiBi together with `slopes_N`.
      scale: multiplied into cosine and sine of queries and keys (YaRN's temperature).
      query_scale: multiplied into queries alone (CLEX's log scale).
      slopes_N: ALiBi's slopes; score -= slope * (query position - key position).
      position_BT: the tokens' positions, if they are not their indices (CLEX in training).
      table: how cosine and sine are rounded; anything but Float32 is for audits of other systems.

    """

    inv_freq_R: jax.Array
    scale: Number = 1.0
    query_scale: Number = 1.0
    slopes_N: jax.Array | None = None
    position_BT: jax.Array | None = None
    table: AngleTable = struct.field(pytree_node=False, default=Float32())


def stack_ropes(ropes: Sequence[Rope]) -> Rope:
    """Stack the position encodings of a batch's rows, whose numbers may all differ.

    Args:
      ropes: one of each row, alike but for `inv_freq_R`, `scale` and `query_scale`.

    Returns:
      One encoding with inv_freq [B, 1, R] and scales [B, 1, 1].

    """
    first = ropes[0]
    freq = np.stack([np.asarray(rope.inv_freq_R, np.float32) for rope in ropes])[:, None]
    scale, query_scale = (
        np.array([getattr(rope, name) for rope in ropes], np.float32)[:, None, None]
        for name in ("scale", "query_scale")
    )
    return first.replace(inv_freq_R=freq, scale=scale, query_scale=query_scale)


def scale_queries(q_BTNH: jax.Array, rope: Rope) -> jax.Array:
    """Multiply queries by `rope.query_scale`."""
    return (q_BTNH.astype(jnp.float32) * per_row(rope.query_scale, 4)).astype(q_BTNH.dtype)


def per_row(x: Number, ndim: int) -> jax.Array:
    """Reshape a number, or one of each row, so that it broadcasts to an array of `ndim` axes, rows first."""
    return jnp.asarray(x, jnp.float32).reshape((-1,) + (1,) * (ndim - 1))


def inv_freq(cfg: ModelConfig, base: float | None = None) -> np.ndarray:
    """Compute RoPE's inverse frequencies, base ** (-2r / rotary_dim) (Su et al. 2021, arXiv:2104.09864, section 3.2.2).

    Args:
      cfg: gives `rotary_dim` and the default base.
      base: RoPE base instead of the model's.

    Returns:
      inv_freq_R, float64. On the host, so that float32 is rounded once.

    """
    pair_R = np.arange(0, cfg.rotary_dim, 2, dtype=np.float64)
    return (base or cfg.rope_base) ** (-pair_R / cfg.rotary_dim)


def cos_sin(position_BT: jax.Array, rope: Rope) -> tuple[jax.Array, jax.Array]:
    """Return cos_BTR, sin_BTR in float32, with `rope.scale` included."""
    return rope.table(position_BT, rope.inv_freq_R, rope.scale)


def rotate(x_BTNH: jax.Array, position_BT: jax.Array, rope: Rope) -> jax.Array:
    """Rotate pair (r, r + R) of the first 2R channels at position p by p * inv_freq[r] (Hugging Face's pairing).

    Args:
      x_BTNH: queries or keys; the remaining H - 2R channels stay as they are.
      position_BT: positions, float32.
      rope: frequencies and scale.

    Returns:
      An array like x_BTNH; the arithmetic is float32.

    """
    pairs = rope.inv_freq_R.shape[-1]
    if not pairs:
        return x_BTNH
    cos_BT1R, sin_BT1R = (x[:, :, None] for x in cos_sin(position_BT, rope))
    x = x_BTNH.astype(jnp.float32)
    a_BTNR, b_BTNR, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    rotated = (a_BTNR * cos_BT1R - b_BTNR * sin_BT1R, b_BTNR * cos_BT1R + a_BTNR * sin_BT1R, rest)
    return jnp.concatenate(rotated, axis=-1).astype(x_BTNH.dtype)
