"""The peer's attention: torch's cuDNN kernel for causal rows, FlexAttention (compiled, block masks) for the rest.

A method whose branches rotate differently is one call of FlexAttention a branch, merged by log-sum-exp, which is how
FlexAttention can do it; mirrored queries and keys stand in for the other rotations, as in the time they take they are.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import AuxRequest, create_block_mask, flex_attention

from benchmarks.beside import case_main, seconds_of, tried
from benchmarks.page import Row

torch._dynamo.config.recompile_limit = 64  # each mask, length and pass is a program of its own
Mask = Callable[[Any, Any, Any, Any], Any]  # of a batch, a head, a query and a key
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
SHORT, FIRST, SINKS, DOCUMENTS = 4096, 10, 128, 8  # SINKS: the tile of keys in which LM-Infinite's first ones lie


def branches_of(method: str, length: int, heads: int) -> list[tuple[Mask, int]]:
    """-> of each branch its mask, and the first so many keys that it looks at."""
    short, near = min(SHORT, length // 4), min(1024, length // 4)
    half, group, document = heads // 2, length // 4, length // DOCUMENTS
    chunk = short * 3 // 4 - short // 8

    def shifted(b, h, i, j):
        shift = torch.where(h >= half, group // 2, 0)
        return (j <= i) & ((i + shift) // group == (j + shift) // group)

    return {
        "causal": [(lambda b, h, i, j: j <= i, length)],
        "sliding_window": [(lambda b, h, i, j: (j <= i) & (i - j < short), length)],
        "self_extend": [
            (lambda b, h, i, j: (j <= i) & (i - j < near), length),
            (lambda b, h, i, j: i - j >= near, length),
        ],
        "lm_infinite": [
            (lambda b, h, i, j: (j <= i) & (i - j < short), length),
            (lambda b, h, i, j: (i - j >= short) & (j < FIRST), min(SINKS, length)),
        ],
        "longlora": [(shifted, length)],
        "dca": [
            (lambda b, h, i, j: (j <= i) & (i // chunk == j // chunk), length),
            (lambda b, h, i, j: i // chunk == j // chunk + 1, length),
            (lambda b, h, i, j: i // chunk > j // chunk + 1, length),
        ],
        "packed": [(lambda b, h, i, j: (j <= i) & (i // document == j // document), length)],
    }[method]


def flex(method: str, heads: int, kv_heads: int, length: int) -> Callable[..., torch.Tensor]:
    """-> a function of q, k and v."""
    attend: Any = torch.compile(flex_attention, dynamic=False) if CUDA else flex_attention
    block_mask: Any = torch.compile(create_block_mask) if CUDA else create_block_mask
    by_head = heads if method == "longlora" else None
    masks = [
        (block_mask(mask, None, by_head, length, keys, device=DEVICE), keys)
        for mask, keys in branches_of(method, length, heads)
    ]
    attend = functools.partial(attend, enable_gqa=heads != kv_heads)

    def one(q, k, v):
        return attend(q, k, v, block_mask=masks[0][0])

    def merged(q, k, v):
        outs, lses = [], []
        for number, (mask, keys) in enumerate(masks):
            turned = (-q, k.flip(-1)) if number else (q, k)
            key, value = (x[:, :, :keys].contiguous() for x in (turned[1], v))
            out, aux = attend(turned[0], key, value, block_mask=mask, return_aux=AuxRequest(lse=True))
            outs.append(torch.nan_to_num(out.float()))
            lses.append(aux.lse)
        total = functools.reduce(torch.logaddexp, lses)
        parts = [out * (lse - total).exp()[..., None] for out, lse in zip(outs, lses, strict=True)]
        return functools.reduce(torch.add, parts).to(q.dtype)

    return one if len(masks) == 1 else merged


def cudnn(heads: int, kv_heads: int) -> Callable[..., torch.Tensor]:
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=heads != kv_heads)


def wait(_: Any) -> None:
    if CUDA:
        torch.cuda.synchronize()


def times(attend: Callable[..., torch.Tensor], shape: tuple[int, ...], kv_heads: int, backward: bool) -> Row:
    rows, heads, length, width = shape
    sizes = [(rows, length, n, width) for n in (heads, kv_heads, kv_heads, heads)]
    q, k, v, d_out = (torch.randn(s, device=DEVICE, dtype=torch.bfloat16).transpose(1, 2) for s in sizes)
    for x in (q, k, v):
        x.requires_grad_(backward)

    def both() -> None:
        q.grad = k.grad = v.grad = None
        attend(q, k, v).backward(d_out)

    with torch.no_grad():
        row = {"forward_ms": 1e3 * seconds_of(lambda: attend(q, k, v), wait)}
    return row | ({"both_ms": 1e3 * seconds_of(both, wait)} if backward else {})


def measure(
    method: str, peer: str, heads: int, kv_heads: int, width: int, lengths: Sequence[int], tokens: int
) -> Iterator[Row]:
    torch.manual_seed(0)
    backward = CUDA or peer == "cudnn"  # FlexAttention's is not there on a CPU
    for length in lengths:
        row: Row = {"length": length, "rows": max(1, tokens // length)}
        kernel = SDPBackend.CUDNN_ATTENTION if CUDA else SDPBackend.MATH
        with tried(row), sdpa_kernel([kernel]):
            attend = cudnn(heads, kv_heads) if peer == "cudnn" else flex(method, heads, kv_heads, length)
            row |= times(attend, (row["rows"], heads, length, width), kv_heads, backward)
        yield row
        if CUDA:
            torch.cuda.empty_cache()


if __name__ == "__main__":
    case_main(measure)
