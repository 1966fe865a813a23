"""Attention of every pattern beside torch: forward and backward, by length.

python -m benchmarks.attention                    on one GPU: 8 minutes at most
python -m benchmarks.attention --methods=causal,self_extend --lengths=32768
python -m benchmarks.attention --tiny             on a CPU: shows that it runs
"""

import dataclasses
from typing import Any

from benchmarks.beside import JAX, TORCH, Case, main, play
from benchmarks.page import Bar, Page, Row, number, ratio, the, thousands


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of the heads, and the methods and lengths to measure."""

    heads: int = 32  # of queries
    kv_heads: int = 32  # of keys and values
    width: int = 128  # of a head
    methods: str = "causal,self_extend,lm_infinite,longlora,sliding_window,packed,dca"  # the first four come first
    lengths: str = "32768,65536,4096,16384"  # tokens of a row
    flex_lengths: str = "32768"  # of those, FlexAttention's: each costs it compilations
    tokens: int = 32_768  # of a call: shorter rows come several at a time
    exact_at: int = 4096  # the length at which errors are measured


def tiny(sizes: Sizes) -> Sizes:
    """Return sizes for a CPU."""
    return Sizes(4, 4, 16, sizes.methods, lengths="128,256", flex_lengths="256", tokens=256, exact_at=128)


OURS, PEER = "jax_attention", "torch_attention"
FIRST = 4  # methods of the first processes; the others get theirs after them
PASSES = {"forward": "forward", "both": "forward + backward"}
BRANCHED = ("self_extend", "lm_infinite", "longlora", "sliding_window", "packed", "dca")
HEADER = (
    "method", "tokens", "fwd ms", "TFLOP/s", "fwd+bwd ms", "TFLOP/s", "peer", "fwd ms", "fwd+bwd ms", "fwd faster",
    "fwd+bwd faster", "error", "of gradients", "peer's error", "of gradients",
)  # fmt: skip
ABOUT = """bfloat16, 32,768 tokens a call. Windows: 4096 (Self-Extend 1024), at most a quarter of the row; LM-Infinite
also the first 10 tokens; LongLoRA (S2) groups of a quarter; packed rows hold 8 documents. TFLOP/s count the pairs that
are visible, the backward pass 2.5 times the forward one. Queries and keys are rotated beforehand, by the model's code.
Errors: norm of the difference over the norm, against float32 dense attention, at 4096 tokens. The peer is torch's cuDNN
kernel for causal rows, compiled FlexAttention with block masks for all others; "faster" is its time over ours."""


def cases(sizes: Sizes) -> list[Case]:
    """Return the cases: the first methods of ours and the peer's, then the others."""
    shape = {name: getattr(sizes, name) for name in ("heads", "kv_heads", "width", "tokens", "exact_at")}
    lengths, flex = ([int(n) for n in text.split(",") if n] for text in (sizes.lengths, sizes.flex_lengths))
    methods = sizes.methods.split(",")
    if unknown := set(methods) - {"causal", *BRANCHED}:
        raise ValueError(f"--methods: {', '.join(sorted(unknown))} is none of causal, {', '.join(BRANCHED)}")

    def ours(methods: list[str]) -> Case:
        return Case(OURS, {"methods": methods, "lengths": lengths, **shape}, 120, JAX)

    def peer(methods: list[str], name: str, lengths: list[int]) -> Case:
        return Case(PEER, {"methods": methods, "peer": name, "lengths": lengths, **shape}, 120, TORCH)

    cases = []
    for group in (methods[:FIRST], methods[FIRST:]):
        branched = [method for method in group if method != "causal"]
        cases += [ours(group)] if group else []
        cases += [peer(["causal"], "cudnn", lengths)] if "causal" in group else []
        cases += [peer(branched, "flex", flex)] if branched and flex else []
    return cases


def lines(rows: list[Row]) -> list[list[str]]:
    """Return the lines of the table."""
    table = []
    for row in sorted((row for row in rows if "both_tflops" in row), key=order):
        peer = peer_of(rows, row)
        ms = [number(row["forward_ms"]), number(row["forward_tflops"], 0), number(row["both_ms"])]
        theirs = [peer.get("peer", ""), number(peer.get("forward_ms")), number(peer.get("both_ms"))]
        faster = [number(ratio(peer.get(key), row[key])) for key in ("forward_ms", "both_ms")]
        keys = ("error_out", "error_grad")
        exact = [f"{side[key]:.2e}" if key in side else "" for side in (row, peer) for key in keys]
        whole = [row["method"], thousands(row["length"]), *ms, number(row["both_tflops"], 0), *theirs, *faster, *exact]
        table.append(whole)
    return table


def order(row: Row) -> tuple[int, int]:
    """Return the place of a row in the table."""
    return ("causal", *BRANCHED).index(row["method"]), row["length"]


def peer_of(rows: list[Row], row: Row) -> Row:
    """Return the peer's row for the same method and length."""
    return the(rows, program=PEER, method=row["method"], length=row["length"])


def compared(rows: list[Row], a: Row, b: Row, passes: tuple[str, ...] = tuple(PASSES), min_length: int = 0):
    """Return the time of `a` over that of `b`, by length (from `min_length` on) and pass."""
    shares = {}
    for length in sorted({row["length"] for row in rows if row.get("length", 0) >= max(min_length, 1)}):
        for name in passes:
            times = [the(rows, **about, length=length).get(f"{name}_ms") for about in (a, b)]
            if share := ratio(*times):
                shares[f"{thousands(length)} {PASSES[name]}"] = share
    return shares


def bars(rows: list[Row]) -> list[Bar]:
    """Return the bars: speed over the peer and over full attention, and errors."""

    def ours(method: str) -> dict[str, Any]:
        return {"program": OURS, "method": method}

    def flex(method: str) -> Bar:
        bound = 1.6 if method == "self_extend" else 1.5
        found = compared(rows, {"program": PEER, "method": method}, ours(method))
        return Bar(f"{method}: speed over FlexAttention", bound, found)

    causal, peer = ours("causal"), {"program": PEER, "method": "causal"}
    extended = compared(rows, ours("self_extend"), causal, min_length=32_768)
    errors = {
        f"{row['method']} {kind}": row[f"error_{kind}"]
        for row in rows if row["program"] == OURS and "error_out" in row for kind in ("out", "grad")
    }  # fmt: skip
    return [
        Bar("causal: speed over torch's cuDNN", 0.95, compared(rows, peer, causal)),
        Bar("Self-Extend: time over full causal's", 1.05, extended, at_most=True),
        Bar("LM-Infinite: speed over full causal", 7.2, compared(rows, causal, ours("lm_infinite"), min_length=65_536)),
        Bar("S2: speed over full causal", 3.7, compared(rows, causal, ours("longlora"), ("both",), 32_768)),
        *map(flex, BRANCHED),
        Bar("relative error against float32", 3e-3, errors, at_most=True),
    ]


PAGE = Page("attention", "Attention beside torch", ABOUT, HEADER, lines, bars)

if __name__ == "__main__":
    main(lambda terms, sizes: play(PAGE, cases(tiny(sizes) if terms.tiny else sizes), terms), Sizes)
