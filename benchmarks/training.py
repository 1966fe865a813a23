"""A training step of LLaMA-2 7B beside torch: tokens a second, share of the peak, memory.

python -m benchmarks.training                     all GPUs: the cases for so many; 8 minutes at most
python -m benchmarks.training --cases="jax:length=32768,remat=qkv;torch:length=32768" --layers=8
python -m benchmarks.training --tiny              on a CPU: shows that it runs

A case is "jax:" or "torch:" and settings: length, rows (an update; the number of GPUs over seq), state (float32 or
bfloat16: weights and moments), ema (0: none), remat (as --remat of the experiments), micro_rows, method, fsdp, seq,
steps (that are timed), profile (1: the time of a step by kernel).
Flags of XLA, beside those of the experiments: XLA_FLAGS=... python -m benchmarks.training.
"""

import dataclasses

from benchmarks.beside import JAX, TORCH, Case, Terms, main, play, settings_of
from benchmarks.machine import gpus
from benchmarks.page import Bar, Page, Row, number, ratio, thousands


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The cases and their sizes."""

    cases: str | None = None  # joined by semicolons; None: those for this number of GPUs
    gpus: int | None = None  # None: all of this machine
    layers: int = 32  # of LLaMA-2 7B
    steps: int = 2  # that are timed, after one
    seconds: float = 150.0  # a case, at most


ONE = (
    "jax:length=32768,state=bfloat16,remat=gate_up,profile=1",
    "torch:length=32768,state=bfloat16",
    "jax:length=65536,state=bfloat16,remat=attention,steps=1",
    "torch:length=65536,state=bfloat16,steps=1",
    "jax:length=32768,state=bfloat16,remat=attention",
)
MANY = (
    "jax:length=32768,ema=0.99,remat=qkv,fsdp={gpus},profile=1",
    "torch:length=32768",
    "jax:length=131072,ema=0.99,remat=attention,seq={gpus},steps=1",
    "jax:length=65536,ema=0.99,remat=attention,fsdp={gpus},steps=1",
    "torch:length=65536,steps=1",
)
SMALL = (
    "jax:length=64,ema=0.99,remat=full,fsdp=2",
    "jax:length=64,state=bfloat16,remat=full,profile=1",
    "torch:length=64",
)

HEADER = (
    "case", "GPUs", "step s", "tokens/s a GPU", "MFU", "peak GiB", "compile s", "first losses", "times as fast as torch"
)  # fmt: skip
ABOUT = """LLaMA-2 7B, random weights and tokens, bfloat16 activations; `state` is the type of Adam's moments. With
bfloat16, ours keeps float32 weights in two halves and rounds the moments without bias; the peer rounds all to nearest.
MFU: products of weights and causal attention, forward once and backward twice, nothing recomputed, over 989 TFLOP/s a
GPU. Ours is `train_step` as the experiments run it. The peer is Hugging Face's LlamaForCausalLM with FSDP2, cuDNN's
attention, activation checkpointing and a loss in slices, without an average of the weights."""


def cases(terms: Terms, sizes: Sizes) -> list[Case]:
    """Return the cases of --cases, else the usual ones for this number of GPUs."""
    count = sizes.gpus or (2 if terms.tiny else max(1, len(gpus())))
    usual = SMALL if terms.tiny else MANY if count > 1 else ONE
    chosen = sizes.cases.split(";") if sizes.cases else [line.format(gpus=count) for line in usual]
    return [case_of(line, count, terms.tiny, sizes) for line in chosen]


def case_of(line: str, count: int, tiny: bool, sizes: Sizes) -> Case:
    """Return the case of a line."""
    framework, about = settings_of(line)
    about = {"layers": 2 if tiny else sizes.layers, "steps": 1 if tiny else sizes.steps, "tiny": tiny, **about}
    if framework == "torch":
        return Case("torch_training", about | {"gpus": count}, sizes.seconds, TORCH)
    env = JAX | ({"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"} if tiny else {})
    return Case("jax_training", about, sizes.seconds, env)


def lines(rows: list[Row]) -> list[list[str]]:
    """Return the lines of the table."""
    return [line(row, peer_of(rows, row)) for row in rows if "step_s" in row]


def line(row: Row, peer: Row) -> list[str]:
    """Return the line of a row, beside its peer's."""
    size = ["" if row[key] is None else f"{row[key]:.1f}" for key in ("peak_gib", "compile_s")]
    losses = " ".join(f"{loss:.3f}" for loss in row["losses"][:3])
    faster = ratio(row["tokens_s_gpu"], peer.get("tokens_s_gpu"))
    rate = [number(row["step_s"], 3), number(row["tokens_s_gpu"], 0), number(row["mfu"], 3)]
    return [name(row), str(row["gpus"]), *rate, *size, losses, number(faster)]


def name(row: Row) -> str:
    """Return the name of a case in tables."""
    fields = ("length", "rows", "state", "ema", "remat", "micro_rows", "method", "fsdp", "seq")
    return row["program"].split("_")[0] + ":" + ",".join(f"{key}={row[key]}" for key in fields if key in row)


def peer_of(rows: list[Row], row: Row) -> Row:
    """Return torch's row at the same length with the same state, for a row of ours."""
    alike = [other for other in rows if other["program"] == "torch_training" and "step_s" in other]
    alike = [other for other in alike if other["length"] == row["length"] and of_state(other) == of_state(row)]
    return alike[0] if alike and row["program"] == "jax_training" else {}


def of_state(row: Row) -> str:
    """Return the type of master weights and moments."""
    return row.get("state", "float32")


def bars(rows: list[Row]) -> list[Bar]:
    """Return the bars: MFU, tokens a second over the peer's, memory."""
    ours = [row for row in rows if row["program"] == "jax_training" and "step_s" in row]
    best: dict[str, Row] = {}
    for row in ours:
        where = f"{thousands(row['length'])}, {row['gpus']} GPUs, {of_state(row)} state"
        best[where] = max(row, best.get(where, row), key=lambda row: row["mfu"])

    def mfu(lengths: tuple[int, ...]) -> dict[str, float]:
        return {where: row["mfu"] for where, row in best.items() if row["length"] in lengths}

    faster = {w: ratio(row["tokens_s_gpu"], peer_of(rows, row).get("tokens_s_gpu")) for w, row in best.items()}
    fits = {(65_536, 1, "bfloat16"), (131_072, 4, "float32")}
    memory = {w: row["peak_gib"] for w, row in best.items() if (row["length"], row["gpus"], of_state(row)) in fits}
    return [
        Bar("MFU at 32K", 0.55, mfu((32_768,))),
        Bar("MFU at 64K and 128K", 0.50, mfu((65_536, 131_072))),
        Bar("tokens a second over torch's", 1.5, {w: x for w, x in faster.items() if x}),
        Bar("64K on one GPU, 128K on four: GiB at the peak", 140, memory, at_most=True),
    ]


PAGE = Page("training", "Training beside torch", ABOUT, HEADER, lines, bars, name)

if __name__ == "__main__":
    main(lambda terms, sizes: play(PAGE, cases(terms, sizes), terms), Sizes)
