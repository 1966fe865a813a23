"""The interface of attention: one softmax over the inputs of a method's branches. `Dense` is its specification.

Letters as in rope.py; M: 1 where all heads see the same keys, else N.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from longjax.attention.branches import MaskFn
from longjax.attention.intervals import Interval
from longjax.attention.rope import Rope
from longjax.config import ModelConfig

MASK_VALUE = -1e30  # the score of an unseen pair; finite, so that no row is NaN
MAX_INDEX = 2**30  # above the index of every token


class TokenPositions(struct.PyTreeNode):
    """Indices, documents and positions of the tokens of one call.

    Attributes:
      index_BT: order in the row, int32. Intervals see it; it is also the slot in a cache of all tokens.
      start_BT: index of the first token of the same document; nothing before it is seen.
      position_BT: what rotation sees, float32: index - start, unless the method says otherwise.
      real_BT: False for padding.
      in_order: a promise that the index is 0, 1, 2, ... in every row. Kernels that must know before the run who sees
        whom then do, but for the documents.
      from_start: a promise that each row is in order and one document, with padding behind it alone.

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
        """Tokens at any indices; by default of one document that starts at 0, and none of them padding."""
        index_BT = index_BT.astype(jnp.int32)
        start_BT = jnp.zeros_like(index_BT) if start_BT is None else start_BT.astype(jnp.int32)
        real_BT = jnp.ones_like(index_BT, bool) if real_BT is None else real_BT
        return cls(index_BT, start_BT, (index_BT - start_BT).astype(jnp.float32), real_BT)

    @classmethod
    def whole(cls, batch: int, length: int, *, real_BT: jax.Array | None = None) -> "TokenPositions":
        """Rows of one document each, from its first token on."""
        index_BT = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (batch, length))
        return cls.at(index_BT, real_BT=real_BT).replace(in_order=True, from_start=True)

    @classmethod
    def documents(cls, start_BT: jax.Array) -> "TokenPositions":
        """Rows of packed documents that do not see each other, from the index of each token's document start."""
        return cls.at(cls.whole(*start_BT.shape).index_BT, start_BT).replace(in_order=True)


class StackedCache(struct.PyTreeNode):
    """The caches of all layers, and the number of one layer. Token j lies in slot (j - offset) mod S."""

    index_LBS: jax.Array
    k_LBSKH: jax.Array
    v_LBSKH: jax.Array
    layer: jax.Array
    offset: jax.Array | int = 0


class BranchInputs(struct.PyTreeNode):
    """Inputs of one branch to the softmax: queries and keys already rotated and scaled, and which pairs are seen.

    Attributes:
      q_BTNH: queries.
      k_BSKH: keys.
      v_BSKH: values.
      lo_BTM: query t sees the keys whose index lies in [lo, hi).
      hi_BTM: see lo_BTM.
      t_index_BT: indices of the queries.
      s_index_BS: indices of the keys; -1 is an empty slot.
      t_position_BT: positions of the queries, for slopes.
      s_position_BS: positions of the keys, for slopes.
      slopes_N: ALiBi's slopes, if any.
      mask: narrows [lo, hi), if given.
      interval: the same as lo and hi, where queries and keys are both in order; `starts` then tells documents apart.
      starts: document starts of queries [B, T] and of keys [B, S]; None where each row is one document.
      head_N: numbers of the query heads in the model.
      stacked_cache: the cache that holds the keys, if they are one layer's of it, for kernels that read it in place.

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
    mask: MaskFn | None = struct.field(pytree_node=False, default=None)
    interval: Interval | None = struct.field(pytree_node=False, default=None)
    starts: tuple[jax.Array, jax.Array] | None = None
    head_N: jax.Array | np.ndarray | None = None
    stacked_cache: StackedCache | None = None


class AttentionBackend(Protocol):
    """An implementation of one softmax over all branches."""

    def __call__(self, branches: tuple[BranchInputs, ...]) -> jax.Array:
        """Return out_BTNH in the dtype of the queries; zero for queries that see no key."""
        ...


Qkv = tuple[jax.Array, jax.Array, jax.Array]  # q_BTNH, k_BSKH, v_BSKH


def split_qkv(branches: tuple[BranchInputs, ...]) -> tuple[tuple[Qkv, ...], tuple[BranchInputs, ...]]:
    """Separate queries, keys and values, through which gradients flow, from the rest of each branch."""
    arrays = tuple((branch.q_BTNH, branch.k_BSKH, branch.v_BSKH) for branch in branches)
    return arrays, tuple(branch.replace(q_BTNH=None, k_BSKH=None, v_BSKH=None) for branch in branches)


def join_qkv(arrays: tuple[Qkv, ...], rest: tuple[BranchInputs, ...]) -> tuple[BranchInputs, ...]:
    """Invert `split_qkv`."""
    pairs = zip(rest, arrays, strict=True)
    return tuple(branch.replace(q_BTNH=q, k_BSKH=k, v_BSKH=v) for branch, (q, k, v) in pairs)


def attention_scores(branch: BranchInputs) -> tuple[jax.Array, jax.Array]:
    """Return score_BKGTS in float32, MASK_VALUE where unseen, and `visible_mask` of the branch."""
    B, T, N, H = branch.q_BTNH.shape
    K = branch.k_BSKH.shape[2]
    q_BTKGH = branch.q_BTNH.reshape(B, T, K, N // K, H)
    x_BKGTS = jnp.einsum("BTKGH,BSKH->BKGTS", q_BTKGH, branch.k_BSKH, preferred_element_type=jnp.float32) * H**-0.5
    if branch.slopes_N is not None:
        distance_BTS = branch.t_position_BT[:, :, None] - branch.s_position_BS[:, None, :]
        x_BKGTS -= branch.slopes_N.reshape(K, N // K, 1, 1) * distance_BTS[:, None, None]
    visible = visible_mask(branch, K, N // K)
    return jnp.where(visible, x_BKGTS, MASK_VALUE), visible


def visible_mask(branch: BranchInputs, K: int, G: int) -> jax.Array:
    """Return the seen pairs as booleans of shape [B, K, G, T, S], or [B, 1, 1, T, S] where all heads agree."""
    B, T, M = branch.lo_BTM.shape
    heads = (K, G) if M > 1 else (1, 1)
    lo, hi = (jnp.moveaxis(x, 1, 2).reshape(B, *heads, T, 1) for x in (branch.lo_BTM, branch.hi_BTM))
    index = branch.s_index_BS[:, None, None, None, :]
    visible = (lo <= index) & (index < hi)
    if branch.mask is not None:
        visible &= branch.mask(branch.t_index_BT[:, None, None, :, None], index)
    return visible


@dataclasses.dataclass(frozen=True)
class Dense:
    """The softmax over all scores at once: memory grows with T * S. The specification of all back ends."""

    def __call__(self, branches: tuple[BranchInputs, ...]) -> jax.Array:
        scored = [attention_scores(branch) for branch in branches]
        top = jnp.max(jnp.stack([x.max(-1) for x, _ in scored]), axis=0)[..., None]
        weights = [jnp.where(visible, jnp.exp(x - jax.lax.stop_gradient(top)), 0.0) for x, visible in scored]
        total_BKGT = jnp.sum(jnp.stack([w.sum(-1) for w in weights]), axis=0)
        out = sum(weighted_values(w, branch) for w, branch in zip(weights, branches, strict=True))
        out /= jnp.maximum(jnp.moveaxis(total_BKGT, 3, 1)[..., None], 1e-30)
        return out.reshape(branches[0].q_BTNH.shape).astype(branches[0].q_BTNH.dtype)


def weighted_values(weight_BKGTS: jax.Array, branch: BranchInputs) -> jax.Array:
    """Return out_BTKGH in float32: the values of a branch, summed with these weights."""
    return jnp.einsum(
        "BKGTS,BSKH->BTKGH", weight_BKGTS.astype(branch.v_BSKH.dtype), branch.v_BSKH, preferred_element_type=jnp.float32
    )


def merge_by_lse(outs: Sequence[jax.Array], lses: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Merge softmaxes over disjoint sets of keys into one softmax over their union.

    Args:
      outs: out_BTNH of each set.
      lses: lse_BNT of each set, the log of its summed weights; MASK_VALUE where nothing of the set is seen.

    Returns:
      out_BTNH, lse_BNT of the union.

    """
    if len(outs) == 1:
        return outs[0], lses[0]
    lse_BNT = jax.nn.logsumexp(jnp.stack(lses), axis=0)
    shares = [jnp.swapaxes(jnp.exp(lse - lse_BNT), 1, 2)[..., None] for lse in lses]
    out = sum(out.astype(jnp.float32) * share for out, share in zip(outs, shares, strict=True))
    return jnp.asarray(out).astype(outs[0].dtype), lse_BNT


class AttentionMetadata(struct.PyTreeNode):
    """The arguments of attention beside q, k, v and the cache. `keys` are the tokens of this call.

    head_N: number of each query head in the whole model; as numpy, kernels may look at it before the run.
    """

    queries: TokenPositions
    keys: TokenPositions
    rope: Rope
    head_N: jax.Array | np.ndarray
    layer: jax.Array | int = 0
    backend: AttentionBackend = struct.field(pytree_node=False, default=Dense())


class Attention(Protocol):
    """Attention of one method. Hashable by value (a frozen dataclass)."""

    def __call__(
        self, q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, metadata: AttentionMetadata, cache: Any = None
    ) -> tuple[jax.Array, Any]:
        """Return out_BTNH and the cache after the call, None where there is none.

        Args:
          q_BTNH: queries, not rotated.
          k_BSKH: keys of the tokens of this call, not rotated.
          v_BSKH: their values.
          metadata: positions, frequencies, back end.
          cache: one layer's cache of the tokens before this call.

        """
        ...

    def init_cache(self, cfg: ModelConfig, batch: int, size: int) -> Any:
        """Return the empty cache of one layer, for rows of at most `size` tokens."""
        ...
