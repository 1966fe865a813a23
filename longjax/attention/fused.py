"""One softmax over rectangles that stock kernels do one by one, exact forward and backward.

Outputs are merged by their log-sum-exp. The gradient is not that of the merging: every kernel gets the output and the
log-sum-exp of the whole softmax, and so returns its share (Dao et al. 2022, arXiv:2205.14135, section B.2: the
backward pass needs nothing else of the forward pass). Letters as in core.py.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.ad_checkpoint import checkpoint_name

from longjax.attention.blockwise import Blockwise
from longjax.attention.core import MASK_VALUE, AttentionBackend, BranchInputs, Qkv, merge_by_lse
from longjax.attention.intervals import Rectangles
from longjax.attention.kernels.base import Kernel, Starts
from longjax.attention.kernels.reference import Reference
from longjax.attention.rectangles import Rectangle

MIN_KERNEL_KEYS = 256  # a rectangle of no more keys costs less as plain matrix products


@dataclasses.dataclass(frozen=True)
class Fused:
    """`kernel` does all rectangles of all branches; if it does not support one of them, `fallback` does all."""

    kernel: Kernel
    fallback: AttentionBackend = Blockwise()

    def __call__(self, branches: tuple[BranchInputs, ...]) -> jax.Array:
        reason = next(filter(None, map(self.unsupported_reason, branches)), None)
        if reason:
            log_once(reason, self.fallback)
            return self.fallback(branches)
        rectangles = tuple(rectangles_of(branch) for branch in branches)
        arrays, starts = tuple((b.q_BTNH, b.k_BSKH, b.v_BSKH) for b in branches), branches[0].starts
        choices = head_group_choices(rectangles, branches[0])
        programs = [partial(self.attend_head_groups, groups, starts) for groups in choices]
        if len(programs) == 1:
            return programs[0](arrays)
        assert branches[0].head_N is not None
        device = jnp.minimum(branches[0].head_N[0] // branches[0].q_BTNH.shape[2], len(programs) - 1)
        return jax.lax.switch(device, programs, arrays)

    def attend_head_groups(self, groups: "tuple[HeadGroup, ...]", starts: Starts, arrays: tuple[Qkv, ...]) -> jax.Array:
        """Return out_BTNH, computed for one group of heads after the other."""
        outs: list[Any] = [
            union_attention(self.kernel, group.rectangles, select_heads(arrays, group), starts) for group in groups
        ]
        return outs[0] if len(outs) == 1 else jnp.concatenate(outs, axis=2)

    def unsupported_reason(self, branch: BranchInputs) -> str | None:
        """Return why the kernel cannot do this branch; None if it can."""
        if branch.mask is not None or branch.slopes_N is not None:
            return "a bias or a mask of pairs"
        if branch.interval is None:
            return "intervals known in the run only (a cache)"
        if branch.starts is not None and not (self.kernel.documents and branch.interval.translation_invariant):
            return "packed documents"
        rectangles = branch.interval.rectangles(branch.q_BTNH.shape[1])
        if rectangles is None:
            return f"{branch.interval} is not made of rectangles"
        G = branch.q_BTNH.shape[2] // branch.k_BSKH.shape[2]
        if any((edge or 0) % G for rectangle in rectangles for edge in rectangle.heads):
            return f"{branch.interval} divides the heads of a group"
        wide = [rectangle for rectangle in rectangles if rectangle.cols > MIN_KERNEL_KEYS]
        return next(filter(None, (self.unsupported_rectangle(branch, rectangle) for rectangle in wide)), None)

    def unsupported_rectangle(self, branch: BranchInputs, rectangle: Rectangle) -> str | None:
        """Return why the kernel cannot do this rectangle; None if it can."""
        q = jax.eval_shape(rectangle.slice_queries, branch.q_BTNH)
        return self.kernel.unsupported_reason(q, jax.eval_shape(rectangle.slice_keys, branch.k_BSKH), rectangle)


@functools.cache
def log_once(reason: str, fallback: AttentionBackend) -> None:
    """Log, the first time, that attention falls back and why."""
    logging.info("%s: attention by %s", reason, fallback)


def rectangles_of(branch: BranchInputs) -> Rectangles:
    """Return the rectangles of a branch whose queries and keys are in order."""
    assert branch.interval is not None
    return branch.interval.rectangles(branch.q_BTNH.shape[1]) or ()


@dataclasses.dataclass(frozen=True)
class HeadGroup:
    """Query heads [first, last) of an array, and the rectangles that each branch has for them."""

    first: int
    last: int
    rectangles: tuple[Rectangles, ...]


def head_group_choices(rectangles: tuple[Rectangles, ...], branch: BranchInputs) -> list[tuple[HeadGroup, ...]]:
    """Group the heads of this array by pattern.

    Args:
      rectangles: those of each branch.
      branch: gives the heads.

    Returns:
      The groups; where the first head's number is known in the run only (heads split over devices), those for every
      number that makes a difference: 0, N, 2 N, ...

    """
    N = branch.q_BTNH.shape[2]
    edges = sorted({edge for rs in rectangles for rectangle in rs for edge in rectangle.heads if edge})
    known = branch.head_N is None or isinstance(branch.head_N, np.ndarray)
    firsts = [int(branch.head_N[0]) if isinstance(branch.head_N, np.ndarray) else 0]
    if edges and not known:
        firsts = list(range(0, edges[-1] + N, N))
    return [tuple(head_groups(rectangles, edges, first, N)) for first in firsts]


def head_groups(rectangles: tuple[Rectangles, ...], edges: list[int], first: int, N: int) -> Iterator[HeadGroup]:
    """Yield the groups of heads first .. first + N - 1 between the edges."""
    bounds = [0, *(edge - first for edge in edges if 0 < edge - first < N), N]
    for start, stop in itertools.pairwise(bounds):
        head = first + start
        yield HeadGroup(start, stop, tuple(tuple(r for r in rs if covers_head(r, head)) for rs in rectangles))


def covers_head(rectangle: Rectangle, head: int) -> bool:
    """Whether the rectangle is for this query head."""
    first, last = rectangle.heads
    return first <= head and (last is None or head < last)


def select_heads(arrays: tuple[Qkv, ...], group: HeadGroup) -> tuple[Qkv, ...]:
    """Cut out a group's query heads and their key heads."""

    def select(x, N):
        return x[:, :, group.first * x.shape[2] // N : group.last * x.shape[2] // N]

    return tuple((select(q, q.shape[2]), select(k, q.shape[2]), select(v, q.shape[2])) for q, k, v in arrays)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def union_attention(
    kernel: Kernel, rectangles: tuple[Rectangles, ...], arrays: tuple[Qkv, ...], starts: Starts
) -> jax.Array:
    """Return out_BTNH of one softmax over all rectangles; rectangles[b] are those of arrays[b]."""
    return _union_forward(kernel, rectangles, arrays, starts)[0]


def _union_forward(kernel, rectangles, arrays, starts):
    T, outs, lses = arrays[0][0].shape[1], [], []
    for of_branch, (q_BTNH, k_BSKH, v_BSKH) in zip(rectangles, arrays, strict=True):
        for r in of_branch:
            qkv = (r.slice_queries(q_BTNH), r.slice_keys(k_BSKH), r.slice_keys(v_BSKH))
            out, lse = kernel_for(kernel, r).forward(*qkv, r, slice_starts(starts, r))
            outs.append(r.scatter_queries(out, T))
            lses.append(r.scatter_query_statistics(lse, T, MASK_VALUE))
    out_BTNH, lse_BNT = merge_by_lse(outs, lses)
    out_BTNH, lse_BNT = checkpoint_name(out_BTNH, "attn_out"), checkpoint_name(lse_BNT, "attn_lse")
    return out_BTNH, (arrays, starts, out_BTNH, lse_BNT)


def _union_backward(kernel, rectangles, saved, d_out_BTNH):
    arrays, starts, out_BTNH, lse_BNT = saved
    whole = (starts, out_BTNH, lse_BNT, d_out_BTNH)
    return tuple(branch_gradients(kernel, *branch, *whole) for branch in zip(rectangles, arrays, strict=True)), None


def branch_gradients(
    kernel: Kernel,
    rectangles: Rectangles,
    qkv: Qkv,
    starts: Starts,
    out_BTNH: jax.Array,
    lse_BNT: jax.Array,
    d_out_BTNH: jax.Array,
) -> tuple[jax.Array, ...]:
    """Return dq_BTNH, dk_BSKH, dv_BSKH of one branch; out and lse are those of the whole softmax."""
    gradients = [[], [], []]
    for r in rectangles:
        arrays = (r.slice_queries(qkv[0]), r.slice_keys(qkv[1]), r.slice_keys(qkv[2]))
        out, lse, d_out = r.slice_queries(out_BTNH), r.slice_query_statistics(lse_BNT), r.slice_queries(d_out_BTNH)
        shares = kernel_for(kernel, r).backward(*arrays, out, lse, d_out, r, slice_starts(starts, r))
        scatters = (r.scatter_queries, r.scatter_keys, r.scatter_keys)
        for total, scatter, share, x in zip(gradients, scatters, shares, qkv, strict=True):
            total.append(scatter(share, x.shape[1]))
    return tuple(sum_in_float32(xs, x) for xs, x in zip(gradients, qkv, strict=True))


union_attention.defvjp(_union_forward, _union_backward)


def slice_starts(starts: Starts, rectangle: Rectangle) -> Starts:
    """Cut out the document starts of the rectangle's queries and keys."""
    return None if starts is None else (rectangle.slice_queries(starts[0]), rectangle.slice_keys(starts[1]))


def kernel_for(kernel: Kernel, rectangle: Rectangle) -> Kernel:
    """Return `kernel`, or plain matrix products where keys are few."""
    products: Kernel = Reference()
    return products if rectangle.cols <= MIN_KERNEL_KEYS else kernel


def sum_in_float32(xs: list[jax.Array], like: jax.Array) -> jax.Array:
    """Return the sum in the dtype of `like`; zeros like it if there is nothing to add."""
    if len(xs) < 2:
        return xs[0] if xs else jnp.zeros_like(like)
    return sum((x.astype(jnp.float32) for x in xs[1:]), xs[0].astype(jnp.float32)).astype(like.dtype)
