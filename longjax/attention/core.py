"""One softmax over the parts that a method's branches prepare. `Dense` is the specification.

Letters as in rope.py; M: 1 where all heads agree, else N.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from longjax.attention.branches import Mask
from longjax.attention.intervals import Interval
from longjax.attention.rope import Rope
from longjax.config import ModelConfig

MASK_VALUE = -1e30  # the score of a pair that nobody sees; finite, so that no row is NaN


class TokenPositions(struct.PyTreeNode):
    """Where the tokens of one call stand.

    Attributes:
      index_BT: order in the row, int32. Intervals see it; it is also the slot in a full cache.
      start_BT: index of the first token of the same document; nothing before it is seen.
      place_BT: what rotation sees, float32: index - start, unless the method says otherwise.
      real_BT: False for padding.
      in_order: a promise: index is 0, 1, 2, ... in every row. Kernels that must know before the run who sees whom, but
        for the documents, then do.
      from_start: another: each row is in order and one document, with padding behind it alone.

    """

    index_BT: jax.Array
    start_BT: jax.Array
    position_BT: jax.Array
    real_BT: jax.Array
    in_order: bool = struct.field(pytree_node=False, default=False)
    from_start: bool = struct.field(pytree_node=False, default=False)

    @classmethod
    def at(
        cls, index_BT: jax.Array, start_BT: jax.Array | None = None, real_BT: jax.Array | None = None
    ) -> "TokenPositions":
        index_BT = index_BT.astype(jnp.int32)
        start_BT = jnp.zeros_like(index_BT) if start_BT is None else start_BT.astype(jnp.int32)
        real_BT = jnp.ones_like(index_BT, bool) if real_BT is None else real_BT
        return cls(index_BT, start_BT, (index_BT - start_BT).astype(jnp.float32), real_BT)

    @classmethod
    def whole(cls, batch: int, length: int, *, real_BT: jax.Array | None = None) -> "TokenPositions":
        """Rows of one document each, from their beginning."""
        index_BT = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (batch, length))
        return cls.at(index_BT, real_BT=real_BT).replace(in_order=True, from_start=True)

    @classmethod
    def documents(cls, start_BT: jax.Array) -> "TokenPositions":
        """Rows full of documents that do not see each other, each token with the index of its document's first."""
        return cls.at(cls.whole(*start_BT.shape).index_BT, start_BT).replace(in_order=True)


class StackedCache(struct.PyTreeNode):
    """The caches of all layers, and which of them is meant. Token j lies in slot (j - offset) mod S."""

    index_LBS: jax.Array
    k_LBSKH: jax.Array
    v_LBSKH: jax.Array
    layer: jax.Array
    offset: jax.Array | int = 0


class BranchInputs(struct.PyTreeNode):
    """What one branch brings to the softmax: queries and keys already rotated and scaled.

    Query t sees the keys whose index lies in [lo, hi). A key with index -1 is an empty slot. `sees` says the same of
    rows in order, queries and keys alike, but for documents, which `starts` keep apart: those of queries and of keys,
    None where each row is one. head_N: numbers of the query heads in the model.
    stored: where the keys lie, if they are a layer's cache, for kernels that read it there.
    """

    q_BTNH: jax.Array
    k_BSKH: jax.Array
    v_BSKH: jax.Array
    lo_BTM: jax.Array
    hi_BTM: jax.Array
    t_index_BT: jax.Array
    s_index_BS: jax.Array
    t_position_BT: jax.Array
    s_position_BS: jax.Array
    slopes_N: jax.Array | None = None
    mask: Mask | None = struct.field(pytree_node=False, default=None)
    interval: Interval | None = struct.field(pytree_node=False, default=None)
    starts: tuple[jax.Array, jax.Array] | None = None
    head_N: jax.Array | np.ndarray | None = None
    stacked_cache: StackedCache | None = None


class AttentionBackend(Protocol):
    """A back end: one softmax over all parts. -> out_BTNH. Rows that see nothing are zero."""

    def __call__(self, parts: tuple[BranchInputs, ...]) -> jax.Array: ...


def attention_scores(part: BranchInputs) -> tuple[jax.Array, jax.Array]:
    """-> logits_BKGTS in float32 (NEVER where unseen), and what is seen, as `visible` says."""
    B, T, N, H = part.q_BTNH.shape
    K = part.k_BSKH.shape[2]
    q_BTKGH = part.q_BTNH.reshape(B, T, K, N // K, H)
    x_BKGTS = jnp.einsum("BTKGH,BSKH->BKGTS", q_BTKGH, part.k_BSKH, preferred_element_type=jnp.float32) * H**-0.5
    if part.slopes_N is not None:
        distance_BTS = part.t_position_BT[:, :, None] - part.s_position_BS[:, None, :]
        x_BKGTS -= part.slopes_N.reshape(K, N // K, 1, 1) * distance_BTS[:, None, None]
    seen = visible(part, K, N // K)
    return jnp.where(seen, x_BKGTS, MASK_VALUE), seen


def visible(part: BranchInputs, K: int, G: int) -> jax.Array:
    """-> booleans of shape [B, K, G, T, S], or [B, 1, 1, T, S] where all heads agree."""
    B, T, M = part.lo_BTM.shape
    heads = (K, G) if M > 1 else (1, 1)
    lo, hi = (jnp.moveaxis(x, 1, 2).reshape(B, *heads, T, 1) for x in (part.lo_BTM, part.hi_BTM))
    index = part.s_index_BS[:, None, None, None, :]
    seen = (lo <= index) & (index < hi)
    if part.mask is not None:
        seen &= part.mask(part.t_index_BT[:, None, None, :, None], index)
    return seen


@dataclasses.dataclass(frozen=True)
class Dense:
    """All scores at once: memory grows with T * S."""

    def __call__(self, parts: tuple[BranchInputs, ...]) -> jax.Array:
        scored = [attention_scores(part) for part in parts]
        top = jnp.max(jnp.stack([x.max(-1) for x, _ in scored]), axis=0)[..., None]
        weights = [jnp.where(seen, jnp.exp(x - jax.lax.stop_gradient(top)), 0.0) for x, seen in scored]
        total_BKGT = jnp.sum(jnp.stack([w.sum(-1) for w in weights]), axis=0)
        out = sum(weighted_values(w, part) for w, part in zip(weights, parts, strict=True))
        out /= jnp.maximum(jnp.moveaxis(total_BKGT, 3, 1)[..., None], 1e-30)
        return out.reshape(parts[0].q_BTNH.shape).astype(parts[0].q_BTNH.dtype)


def weighted_values(weight_BKGTS: jax.Array, part: BranchInputs) -> jax.Array:
    """-> out_BTKGH in float32."""
    return jnp.einsum(
        "BKGTS,BSKH->BTKGH", weight_BKGTS.astype(part.v_BSKH.dtype), part.v_BSKH, preferred_element_type=jnp.float32
    )


def merge_by_lse(outs: Sequence[jax.Array], lses: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """-> out_BTNH, lse_BNT of the union of disjoint sets of keys; lse NEVER: nothing of a set is seen."""
    if len(outs) == 1:
        return outs[0], lses[0]
    lse_BNT = jax.nn.logsumexp(jnp.stack(lses), axis=0)
    shares = [jnp.swapaxes(jnp.exp(lse - lse_BNT), 1, 2)[..., None] for lse in lses]
    out = sum(out.astype(jnp.float32) * share for out, share in zip(outs, shares, strict=True))
    return jnp.asarray(out).astype(outs[0].dtype), lse_BNT


class AttentionMetadata(struct.PyTreeNode):
    """All that attention knows beside q, k and v. `keys` are the tokens of this call, cache apart."""

    queries: TokenPositions
    keys: TokenPositions
    rope: Rope
    head_N: jax.Array | np.ndarray  # number of each query head in the whole model; numpy: kernels may look at it
    layer: jax.Array | int = 0
    backend: AttentionBackend = struct.field(pytree_node=False, default=Dense())


class Attention(Protocol):
    """Queries and keys arrive unrotated. Must be hashable by value (a frozen dataclass)."""

    def __call__(
        self, q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, metadata: AttentionMetadata, cache: Any = None
    ) -> tuple[jax.Array, Any]:
        """-> (out_BTNH, memory). `memory` is one layer's cache, None where there is none."""
        ...

    def init_cache(self, cfg: ModelConfig, batch: int, size: int) -> Any:
        """-> memory of one layer, for rows of at most `size` tokens."""
        ...
