"""The peer's attention: torch's cuDNN kernel for causal rows, FlexAttention (compiled, block masks) for the rest.

A method whose branches rotate differently is one call of FlexAttention a branch, merged by log-sum-exp (compiled, too),
which is how FlexAttention can do it. As with ours, every branch has queries and keys that were rotated beforehand.
"""

import functools
import itertools
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
Attend = Callable[..., torch.Tensor]  # of every branch's queries, its keys, and the values
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
SHORT, FIRST, SINKS, DOCUMENTS = 4096, 10, 128, 8  # SINKS: the tile of keys in which LM-Infinite's first ones lie


def branches_of(method: str, length: int, heads: int) -> list[tuple[Mask, int]]:
    """Return for each branch its mask and the number of leading keys that it attends to."""
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


def flex(method: str, heads: int, kv_heads: int, length: int) -> Attend:
    """Return FlexAttention with the block masks of a method."""
    attend, block_mask, merge_all = map(compiled, (flex_attention, create_block_mask, merge))
    attend = functools.partial(attend, enable_gqa=heads != kv_heads)
    branches, by_head = branches_of(method, length, heads), heads if method == "longlora" else None
    masks = [block_mask(mask, None, by_head, length, keys, device=DEVICE) for mask, keys in branches]

    def single(queries, keys, value):
        return attend(queries[0], keys[0], value, block_mask=masks[0])

    def merged(queries, keys, value):
        parts = [
            attend(q, k, value[:, :, : k.shape[2]], block_mask=mask, return_aux=AuxRequest(lse=True))
            for q, k, mask in zip(queries, keys, masks, strict=True)
        ]
        return merge_all([out for out, _ in parts], [aux.lse for _, aux in parts])

    return single if len(masks) == 1 else merged


def compiled(work: Callable[..., Any]) -> Any:
    """Return the function compiled, on a GPU."""
    return torch.compile(work, dynamic=False) if CUDA else work


def merge(outs: list[torch.Tensor], lses: list[torch.Tensor]) -> torch.Tensor:
    """Merge branches into one softmax; where one sees nothing, its lse is -inf."""
    total = functools.reduce(torch.logaddexp, lses)
    shares = [
        torch.nan_to_num(out.float()) * (lse - total).exp()[..., None] for out, lse in zip(outs, lses, strict=True)
    ]
    return functools.reduce(torch.add, shares).to(outs[0].dtype)


def cudnn(heads: int, kv_heads: int) -> Attend:
    """Return causal attention by cuDNN's kernel."""
    causal = functools.partial(F.scaled_dot_product_attention, is_causal=True, enable_gqa=heads != kv_heads)
    return lambda queries, keys, value: causal(queries[0], keys[0], value)


def wait(_: Any) -> None:
    """Wait for the GPU."""
    if CUDA:
        torch.cuda.synchronize()


def errors(attend: Attend, heads: int, kv_heads: int, width: int, length: int) -> Row:
    """Return the errors of causal attention against float32 on the same numbers; of the gradients the worst."""
    sizes = [(1, length, n, width) for n in (heads, kv_heads, kv_heads, heads)]
    q, k, v, d_out = (torch.randn(s, device=DEVICE, dtype=torch.bfloat16).transpose(1, 2) for s in sizes)

    def dense(queries, keys, value):
        key, val = (x.repeat_interleave(heads // kv_heads, 1) for x in (keys[0], value))
        scores = queries[0] @ key.mT * width**-0.5
        later = torch.ones(length, length, dtype=torch.bool, device=DEVICE).triu(1)
        return scores.masked_fill(later, -torch.inf).softmax(-1) @ val

    def all_of(attend: Attend, dtype: torch.dtype) -> list[torch.Tensor]:
        leaves = [x.detach().to(dtype).requires_grad_() for x in (q, k, v)]
        out = attend([leaves[0]], [leaves[1]], leaves[2])
        return [out.detach(), *torch.autograd.grad(out, leaves, d_out.to(dtype))]

    pairs = zip(all_of(attend, torch.bfloat16), all_of(dense, torch.float32), strict=True)
    distances = [((a.float() - b).norm() / b.norm()).item() for a, b in pairs]
    return {"error_out": distances[0], "error_grad": max(distances[1:])}


def times(attend: Attend, rows: int, heads: int, kv_heads: int, width: int, keys_of: list[int], backward: bool) -> Row:
    """Measure forward and both passes; `keys_of`: the number of keys of each branch, of the first one all."""
    length = keys_of[0]

    def random(heads: int, length: int) -> torch.Tensor:
        x = torch.randn(rows, length, heads, width, device=DEVICE, dtype=torch.bfloat16).transpose(1, 2)
        return x.requires_grad_(backward)

    queries, keys = [random(heads, length) for _ in keys_of], [random(kv_heads, n) for n in keys_of]
    value, d_out = random(kv_heads, length), random(heads, length).detach()

    def both() -> None:
        for x in (*queries, *keys, value):
            x.grad = None
        attend(queries, keys, value).backward(d_out)

    with torch.no_grad():
        row = {"forward_ms": 1e3 * seconds_of(lambda: attend(queries, keys, value), wait)}
    return row | ({"both_ms": 1e3 * seconds_of(both, wait)} if backward else {})


def measure(
    methods: Sequence[str],
    peer: str,
    heads: int,
    kv_heads: int,
    width: int,
    lengths: Sequence[int],
    tokens: int,
    exact_at: int,
) -> Iterator[Row]:
    """Yield a row for each method and length."""
    torch.manual_seed(0)
    backward = CUDA or peer == "cudnn"  # FlexAttention's is not there on a CPU
    for method, length in itertools.product(methods, lengths):
        row: Row = {"method": method, "length": length, "rows": max(1, tokens // length)}
        kernel = SDPBackend.CUDNN_ATTENTION if CUDA else SDPBackend.MATH
        with tried(row), sdpa_kernel([kernel]):
            attend = cudnn(heads, kv_heads) if peer == "cudnn" else flex(method, heads, kv_heads, length)
            keys_of = [keys for _, keys in branches_of(method, length, heads)]
            if peer == "cudnn" and length == exact_at:
                row |= errors(attend, heads, kv_heads, width, length)
            row |= times(attend, row["rows"], heads, kv_heads, width, keys_of, backward)
        yield row
        if CUDA:
            torch.cuda.empty_cache()


if __name__ == "__main__":
    case_main(measure)
