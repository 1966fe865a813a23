"""One softmax over rectangles that stock kernels do one by one, exact forward and backward.

Outputs are merged by their log-sum-exp. The gradient is not that of the merging: every kernel is given the output and
the log-sum-exp of the whole softmax, and so returns its share (Dao et al. 2022, arXiv:2205.14135, section B.2: the
backward pass needs of the forward nothing else). Letters as in attention.py.
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
from longjax.attention.core import MASK_VALUE, AttentionBackend, BranchInputs, merge_by_lse
from longjax.attention.intervals import Rectangles
from longjax.attention.kernels.base import Kernel, Starts
from longjax.attention.kernels.reference import Reference
from longjax.attention.rectangles import Rectangle

MIN_KERNEL_KEYS = 256  # keys; a rectangle of no more costs less as plain products
Arrays = tuple[tuple[jax.Array, jax.Array, jax.Array], ...]  # q, k, v of every part


@dataclasses.dataclass(frozen=True)
class Fused:
    """`kernel` does all rectangles of all parts; what it cannot do, `otherwise` does, as a whole."""

    kernel: Kernel
    fallback: AttentionBackend = Blockwise()

    def __call__(self, parts: tuple[BranchInputs, ...]) -> jax.Array:
        why = next(filter(None, map(self.unsupported_reason, parts)), None)
        if why:
            log_once(why, self.fallback)
            return self.fallback(parts)
        rectangles = tuple(rectangles_of(part) for part in parts)
        arrays, starts = tuple((p.q_BTNH, p.k_BSKH, p.v_BSKH) for p in parts), parts[0].starts
        choices = by_heads(rectangles, parts[0])
        run = [partial(self.over_heads, choice, starts) for choice in choices]
        if len(run) == 1:
            return run[0](arrays)
        assert parts[0].head_N is not None
        here = jnp.minimum(parts[0].head_N[0] // parts[0].q_BTNH.shape[2], len(run) - 1)
        return jax.lax.switch(here, run, arrays)

    def over_heads(self, groups: "tuple[HeadGroup, ...]", starts: Starts, arrays: Arrays) -> jax.Array:
        """-> out_BTNH, of groups of heads one after the other."""
        outs: list[Any] = [
            union(self.kernel, group.rectangles, select_heads(arrays, group), starts) for group in groups
        ]
        return outs[0] if len(outs) == 1 else jnp.concatenate(outs, axis=2)

    def unsupported_reason(self, part: BranchInputs) -> str | None:
        """-> why the kernel cannot do this part; None if it can."""
        if part.mask is not None or part.slopes_N is not None:
            return "a bias or a mask of pairs"
        if part.interval is None:
            return "who sees whom is known in the run only (a cache)"
        if part.starts is not None and not (self.kernel.documents and part.interval.translation_invariant):
            return "documents side by side"
        rectangles = part.interval.rectangles(part.q_BTNH.shape[1])
        if rectangles is None:
            return f"{part.interval} is not made of rectangles"
        G = part.q_BTNH.shape[2] // part.k_BSKH.shape[2]
        if any((edge or 0) % G for rectangle in rectangles for edge in rectangle.heads):
            return f"{part.interval} divides the heads of a group"
        wide = [rectangle for rectangle in rectangles if rectangle.cols > MIN_KERNEL_KEYS]
        return next(filter(None, (self.unsupported_rectangle(part, rectangle) for rectangle in wide)), None)

    def unsupported_rectangle(self, part: BranchInputs, rectangle: Rectangle) -> str | None:
        q, k = (jax.eval_shape(cut, x) for cut, x in ((rectangle.queries, part.q_BTNH), (rectangle.keys, part.k_BSKH)))
        return self.kernel.unsupported_reason(q, k, rectangle)


@functools.cache
def log_once(why: str, otherwise: AttentionBackend) -> None:
    logging.info("%s: attention by %s", why, otherwise)


def rectangles_of(part: BranchInputs) -> Rectangles:
    assert part.interval is not None
    return part.interval.rectangles(part.q_BTNH.shape[1]) or ()


@dataclasses.dataclass(frozen=True)
class HeadGroup:
    """Query heads [first, last) of an array, and the rectangles that each part has for them."""

    first: int
    last: int
    rectangles: tuple[Rectangles, ...]


def by_heads(rectangles: tuple[Rectangles, ...], part: BranchInputs) -> list[tuple[HeadGroup, ...]]:
    """-> the heads of this array in groups of one pattern; where the first head's number is known in the run only
    (heads split over devices), the same for every number that makes a difference: 0, N, 2 N, ...
    """
    N = part.q_BTNH.shape[2]
    edges = sorted({edge for bs in rectangles for rectangle in bs for edge in rectangle.heads if edge})
    known = part.head_N is None or isinstance(part.head_N, np.ndarray)
    firsts = [int(part.head_N[0]) if isinstance(part.head_N, np.ndarray) else 0]
    if edges and not known:
        firsts = list(range(0, edges[-1] + N, N))
    return [tuple(head_groups(rectangles, edges, first, N)) for first in firsts]


def head_groups(rectangles: tuple[Rectangles, ...], edges: list[int], first: int, N: int) -> Iterator[HeadGroup]:
    inside = [0, *(edge - first for edge in edges if 0 < edge - first < N), N]
    for start, end in itertools.pairwise(inside):
        head = first + start
        yield HeadGroup(start, end, tuple(tuple(b for b in bs if covers_head(b, head)) for bs in rectangles))


def covers_head(rectangle: Rectangle, head: int) -> bool:
    first, last = rectangle.heads
    return first <= head and (last is None or head < last)


def select_heads(arrays: Arrays, group: HeadGroup) -> Arrays:
    def cut(x, heads):
        return x[:, :, group.first * x.shape[2] // heads : group.last * x.shape[2] // heads]

    return tuple((cut(q, q.shape[2]), cut(k, q.shape[2]), cut(v, q.shape[2])) for q, k, v in arrays)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def union(kernel: Kernel, rectangles: tuple[Rectangles, ...], arrays: Arrays, starts: Starts) -> jax.Array:
    """-> out_BTNH of one softmax over all rectangles; those of part p are bands[p] of arrays[p]."""
    return union_forward(kernel, rectangles, arrays, starts)[0]


def union_forward(kernel, rectangles, arrays, starts):
    T, outs, lses = arrays[0][0].shape[1], [], []
    for part, (q_BTNH, k_BSKH, v_BSKH) in zip(rectangles, arrays, strict=True):
        for rectangle in part:
            given = (rectangle.queries(q_BTNH), rectangle.keys(k_BSKH), rectangle.keys(v_BSKH))
            out, lse = kernel_for(kernel, rectangle).forward(*given, rectangle, starts_in_rectangle(starts, rectangle))
            outs.append(rectangle.back_to_queries(out, T))
            lses.append(rectangle.back_of_queries(lse, T, MASK_VALUE))
    out_BTNH, lse_BNT = merge_by_lse(outs, lses)
    out_BTNH, lse_BNT = checkpoint_name(out_BTNH, "attn_out"), checkpoint_name(lse_BNT, "attn_lse")
    return out_BTNH, (arrays, starts, out_BTNH, lse_BNT)


def union_backward(kernel, rectangles, saved, d_out_BTNH):
    arrays, starts, out_BTNH, lse_BNT = saved
    whole = (starts, out_BTNH, lse_BNT, d_out_BTNH)
    return tuple(gradients_of_rectangle(kernel, *part, *whole) for part in zip(rectangles, arrays, strict=True)), None


def gradients_of_rectangle(
    kernel: Kernel, rectangles: Rectangles, qkv: tuple, starts: Starts, out_BTNH: jax.Array, lse_BNT: jax.Array,
    d_out_BTNH: jax.Array,
):  # fmt: skip
    """-> dq_BTNH, dk_BSKH, dv_BSKH."""
    sums = [[], [], []]
    for rectangle in rectangles:
        given = (rectangle.queries(qkv[0]), rectangle.keys(qkv[1]), rectangle.keys(qkv[2]))
        out, lse, d_out = rectangle.queries(out_BTNH), rectangle.select_queries(lse_BNT), rectangle.queries(d_out_BTNH)
        back = (rectangle.back_to_queries, rectangle.back_to_keys, rectangle.back_to_keys)
        grads = kernel_for(kernel, rectangle).backward(
            *given, out, lse, d_out, rectangle, starts_in_rectangle(starts, rectangle)
        )
        for total, put, grad, x in zip(sums, back, grads, qkv, strict=True):
            total.append(put(grad, x.shape[1]))
    return tuple(accumulate(total, x) for total, x in zip(sums, qkv, strict=True))


union.defvjp(union_forward, union_backward)


def starts_in_rectangle(starts: Starts, rectangle: Rectangle) -> Starts:
    return None if starts is None else (rectangle.queries(starts[0]), rectangle.keys(starts[1]))


def kernel_for(kernel: Kernel, rectangle: Rectangle) -> Kernel:
    few: Kernel = Reference()
    return few if rectangle.cols <= MIN_KERNEL_KEYS else kernel


def accumulate(xs: list[jax.Array], like: jax.Array) -> jax.Array:
    """-> the sum, added up in float32; zeros if there is nothing to add."""
    if len(xs) < 2:
        return xs[0] if xs else jnp.zeros_like(like)
    return sum((x.astype(jnp.float32) for x in xs[1:]), xs[0].astype(jnp.float32)).astype(like.dtype)
