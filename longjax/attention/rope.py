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


class Table(Protocol):
    """The arithmetic of cosines and sines. -> cos_BTR, sin_BTR in float32. A frozen dataclass.

    `freq` and `scale` are of one sequence, or of each row: [R] or [B, 1, R], a number or [B, 1, 1].
    """

    def __call__(self, position_BT: jax.Array, freq: jax.Array, scale: Number) -> tuple[jax.Array, jax.Array]: ...


@dataclasses.dataclass(frozen=True)
class Float32:
    def __call__(self, position_BT, freq, scale):
        angle_BTR = position_BT[..., None].astype(jnp.float32) * freq
        return jnp.cos(angle_BTR) * scale, jnp.sin(angle_BTR) * scale


class Rope(struct.PyTreeNode):
    """What a positional method says about one sequence, or, as `of_rows` makes it, about each row of a batch.

    Attributes:
      inv_freq_R: radians per position of each pair. Fewer pairs than H/2 leave the rest of the head
        unrotated (Phi); none at all is NoPE, or ALiBi together with `slopes_N`.
      scale: multiplied into cosine and sine of queries and keys (YaRN's temperature).
      query_scale: multiplied into queries alone (CLEX's log scale).
      slopes_N: ALiBi's slopes; score -= slope * (query place - key place).
      place_BT: where the tokens stand, if not at their index (CLEX in training).
      table: how cosine and sine are rounded; anything but Float32 is for audits of other systems.

    """

    inv_freq_R: jax.Array
    scale: Number = 1.0
    query_scale: Number = 1.0
    slopes_N: jax.Array | None = None
    position_BT: jax.Array | None = None
    table: Table = struct.field(pytree_node=False, default=Float32())


def stack_ropes(ropes: Sequence[Rope]) -> Rope:
    """-> one for a batch of sequences, which may differ in all numbers: each gets axes for tokens and pairs."""
    first = ropes[0]
    freq = np.stack([np.asarray(rope.inv_freq_R, np.float32) for rope in ropes])[:, None]
    scale, query_scale = (
        np.array([getattr(rope, name) for rope in ropes], np.float32)[:, None, None]
        for name in ("scale", "query_scale")
    )
    return first.replace(inv_freq_R=freq, scale=scale, query_scale=query_scale)


def scale_queries(q_BTNH: jax.Array, rope: Rope) -> jax.Array:
    """Queries times `query_scale`."""
    return (q_BTNH.astype(jnp.float32) * per_row(rope.query_scale, 4)).astype(q_BTNH.dtype)


def per_row(x: Number, axes: int) -> jax.Array:
    """A number, or one of each row, ready to be multiplied into an array of so many axes, rows first."""
    return jnp.asarray(x, jnp.float32).reshape((-1,) + (1,) * (axes - 1))


def inv_freq(cfg: ModelConfig, base: float | None = None) -> np.ndarray:
    """-> inv_freq_R, float64: base ** (-2r / rotary_dim). On the host, so that float32 is rounded once."""
    pair_R = np.arange(0, cfg.rotary_dim, 2, dtype=np.float64)
    return (base or cfg.rope_base) ** (-pair_R / cfg.rotary_dim)


def cos_sin(position_BT: jax.Array, rope: Rope) -> tuple[jax.Array, jax.Array]:
    """-> cos_BTR, sin_BTR in float32, scale included."""
    return rope.table(position_BT, rope.inv_freq_R, rope.scale)


def rotate(x_BTNH: jax.Array, position_BT: jax.Array, rope: Rope) -> jax.Array:
    """Turns pair (r, r + R) of the first 2R channels at place p by p * inv_freq[r] (Hugging Face's pairing)."""
    pairs = rope.inv_freq_R.shape[-1]
    if not pairs:
        return x_BTNH
    cos_BT1R, sin_BT1R = (x[:, :, None] for x in cos_sin(position_BT, rope))
    x = x_BTNH.astype(jnp.float32)
    a_BTNR, b_BTNR, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    turned = (a_BTNR * cos_BT1R - b_BTNR * sin_BT1R, b_BTNR * cos_BT1R + a_BTNR * sin_BT1R, rest)
    return jnp.concatenate(turned, axis=-1).astype(x_BTNH.dtype)
