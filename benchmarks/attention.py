"""Attention of every pattern beside torch: forward and backward, by length.

python -m benchmarks.attention                    on one GPU: 8 minutes at most
python -m benchmarks.attention --only=causal,self_extend --lengths=32768
python -m benchmarks.attention --tiny             on a CPU: shows that it runs
"""

from typing import Any

from absl import app, flags

from benchmarks.beside import JAX, TINY, TORCH, Bar, Case, Page, Row, number, play, ratio, the, thousands

HEADS = flags.DEFINE_integer("heads", 32, "Query heads.", 1)
KV_HEADS = flags.DEFINE_integer("kv_heads", 32, "Key heads.", 1)
WIDTH = flags.DEFINE_integer("width", 128, "Of a head.", 1)
LENGTHS = flags.DEFINE_list("lengths", ["4096", "16384", "32768", "65536"], "Tokens of a row.")
FLEX_LENGTHS = flags.DEFINE_list("flex_lengths", ["32768"], "Of those, FlexAttention's: each costs it compilations.")
TOKENS = flags.DEFINE_integer("tokens", 32_768, "Of a call: shorter rows come several at a time.", 1)

OURS, PEER = "jax_attention", "torch_attention"
BRANCHED = ("self_extend", "lm_infinite", "longlora", "sliding_window", "packed", "dca")
EXACT_AT = 4096
HEADER = (
    "method", "tokens", "fwd ms", "TFLOP/s", "fwd+bwd ms", "TFLOP/s", "peer", "fwd ms", "fwd+bwd ms", "fwd faster",
    "fwd+bwd faster", "error", "error of gradients",
)  # fmt: skip
ABOUT = """bfloat16, 32,768 tokens a call. Windows: 4096 (Self-Extend 1024), at most a quarter of the row; LM-Infinite
also the first 10 tokens; LongLoRA (S2) groups of a quarter; packed rows hold 8 documents. TFLOP/s count the pairs that
are seen, the backward pass 2.5 times the forward one. Queries and keys are rotated beforehand, by the model's own code.
Errors: norm of the difference over the norm, against float32 dense attention, at 4096 tokens. The peer is torch's cuDNN
kernel for causal rows, compiled FlexAttention with block masks for all others; "faster" is its time over ours."""


def cases() -> list[Case]:
    shape = {"heads": HEADS.value, "kv_heads": KV_HEADS.value, "width": WIDTH.value, "tokens": TOKENS.value}
    lengths, flex = ([int(n) for n in flag.value] for flag in (LENGTHS, FLEX_LENGTHS))
    exact_at = EXACT_AT
    if TINY.value:
        shape, lengths, flex, exact_at = {"heads": 4, "kv_heads": 4, "width": 16, "tokens": 256}, [128, 256], [256], 128

    def ours(method: str) -> Case:
        return Case(OURS, {"method": method, "lengths": lengths, "exact_at": exact_at, **shape}, 75, JAX)

    def peer(method: str, name: str, lengths: list[int]) -> Case:
        return Case(PEER, {"method": method, "peer": name, "lengths": lengths, **shape}, 75, TORCH)

    first = [ours("causal"), peer("causal", "cudnn", lengths), *(ours(method) for method in BRANCHED)]
    return first + [peer(method, "flex", [n for n in flex if n in lengths]) for method in BRANCHED]


def lines(rows: list[Row]) -> list[list[str]]:
    found = []
    for row in (row for row in rows if row["program"] == OURS and "error" not in row):
        peer = peer_of(rows, row)
        ms = [number(row["forward_ms"]), number(row["forward_tflops"], 0), number(row["both_ms"])]
        theirs = [peer.get("peer", ""), number(peer.get("forward_ms")), number(peer.get("both_ms"))]
        faster = [number(ratio(peer.get(key), row[key])) for key in ("forward_ms", "both_ms")]
        exact = [f"{row[key]:.1e}" if key in row else "" for key in ("error_out", "error_grad")]
        whole = [row["method"], thousands(row["length"]), *ms, number(row["both_tflops"], 0), *theirs, *faster, *exact]
        found.append(whole)
    return found


def peer_of(rows: list[Row], row: Row) -> Row:
    return the(rows, program=PEER, method=row["method"], length=row["length"])


def compared(rows: list[Row], a: dict[str, Any], b: dict[str, Any], passes: tuple[str, ...] = ("forward", "both")):
    """-> the time of `a` over that of `b`, by length and pass."""
    found = {}
    for length in sorted({row["length"] for row in rows if "length" in row}):
        for one in passes:
            times = [the(rows, **about, length=length).get(f"{one}_ms") for about in (a, b)]
            if share := ratio(*times):
                found[f"{thousands(length)} {'forward' if one == 'forward' else 'forward + backward'}"] = share
    return found


def bars(rows: list[Row]) -> list[Bar]:
    def ours(method: str) -> dict[str, Any]:
        return {"program": OURS, "method": method}

    def long_enough(values: dict[str, float], least: int) -> dict[str, float]:
        return {where: x for where, x in values.items() if int(where.split("K")[0]) >= least} if not TINY.value else {}

    causal, peer = ours("causal"), {"program": PEER, "method": "causal"}
    extended = long_enough(compared(rows, ours("self_extend"), causal), 32)
    infinite = long_enough(compared(rows, causal, ours("lm_infinite")), 64)
    groups = long_enough(compared(rows, causal, ours("longlora"), ("both",)), 32)
    flex = [
        Bar(f"{method}: speed over FlexAttention", 1.6 if method == "self_extend" else 1.5,
            compared(rows, {"program": PEER, "method": method}, ours(method)))
        for method in BRANCHED
    ]  # fmt: skip
    worst = {
        f"{row['method']} {kind}": row[f"error_{kind}"]
        for row in rows if "error_out" in row for kind in ("out", "grad")
    }  # fmt: skip
    return [
        Bar("causal: speed over torch's cuDNN", 0.95, compared(rows, peer, causal)),
        Bar("Self-Extend: time over full causal's", 1.05, extended, at_most=True),
        Bar("LM-Infinite: speed over full causal", 7.2, infinite),
        Bar("S2: speed over full causal", 3.7, groups),
        *flex,
        Bar("relative error against float32", 3e-3, worst, at_most=True),
    ]


def main(argv: list[str]) -> None:
    play(Page("attention", "Attention beside torch", ABOUT, HEADER, lines, bars), cases())


if __name__ == "__main__":
    app.run(main)
