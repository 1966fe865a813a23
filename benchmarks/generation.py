"""Reading a prompt and answering it, beside transformers: tokens a second, and how near the memory's speed.

python -m benchmarks.generation                   on one GPU: 8 minutes at most
python -m benchmarks.generation --cases="jax:prompt=32768,rows=4;torch:prompt=32768,rows=4"
python -m benchmarks.generation --tiny            on a CPU: shows that it runs

A case is "jax:" or "torch:" and settings: prompt (tokens), rows, new (tokens of the answer), method, profile (1: the
time of a token by kernel).
"""

import dataclasses

from benchmarks.beside import JAX, TORCH, Case, Terms, main, play, settings_of
from benchmarks.page import Bar, Page, Row, number, ratio, the, thousands


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The cases and their sizes."""

    cases: str | None = None  # joined by semicolons; None: the usual ones
    layers: int = 32  # of LLaMA-2 7B
    seconds: float = 90.0  # a case, at most


USUAL = (
    "jax:prompt=32768,rows=1",
    "torch:prompt=32768,rows=1",
    "jax:prompt=32768,rows=1,method=lm_infinite",
    "jax:prompt=65536,rows=1,method=lm_infinite",
    "jax:prompt=32768,rows=4",
    "torch:prompt=32768,rows=4",
    "jax:prompt=32768,rows=1,method=self_extend",
    "jax:prompt=4096,rows=1",
    "torch:prompt=4096,rows=1",
    "jax:prompt=65536,rows=1",
)
SMALL = ("jax:prompt=96,rows=2,method=lm_infinite,profile=1", "torch:prompt=96,rows=2")

HEADER = (
    "case", "prefill s", "tokens/s", "decode ms a token", "GB a token", "TB/s", "of the copy rate", "peak GiB",
    "compile s", "prefill faster", "decode faster",
)  # fmt: skip
ABOUT = """LLaMA-2 7B, random weights in bfloat16, greedy. Prefill: the time of an answer of one token; decode: of each
token more, all rows together. Ours is `Generator`, as the evaluators call it, host work included; the peer is
transformers' `generate` with sdpa attention and its dynamic cache. Bytes of a token: all weights but the embedding,
and the visible keys and values. The copy rate (bytes read and written) is measured in the same process.
"faster" is the peer's time over ours, for the same rows and prompt."""


def cases(terms: Terms, sizes: Sizes) -> list[Case]:
    """Return the cases of --cases, else the usual ones."""
    chosen = sizes.cases.split(";") if sizes.cases else SMALL if terms.tiny else USUAL
    return [case_of(line, terms.tiny, sizes) for line in chosen]


def case_of(line: str, tiny: bool, sizes: Sizes) -> Case:
    """Return the case of a line."""
    framework, about = settings_of(line)
    about = {"method": "base", "new": 8 if tiny else 65, "layers": 2 if tiny else sizes.layers, "tiny": tiny, **about}
    return Case(f"{framework}_generation", about, sizes.seconds, JAX if framework == "jax" else TORCH)


def lines(rows: list[Row]) -> list[list[str]]:
    """Return the lines of the table."""
    return [line(row, peer_of(rows, row)) for row in rows if "prefill_s" in row]


def line(row: Row, peer: Row) -> list[str]:
    """Return the line of a row, beside its peer's."""
    rate = [number(row["prefill_s"], 3), number(row["prefill_tokens_s"], 0), number(row["decode_ms"])]
    memory = [number(row.get("gb")), number(row.get("tb_s")), number(row.get("of_copy"))]
    size = [number(row["peak_gib"], 1), number(row.get("compile_s"), 1)]
    faster = [number(ratio(peer.get(key), row[key])) for key in ("prefill_s", "decode_ms")]
    return [name(row), *rate, *memory, *size, *faster]


def name(row: Row) -> str:
    """Return the name of a case in tables."""
    return f"{row['program'].split('_')[0]} {row['method']}, {row['rows']} x {thousands(row['prompt'])}"


def peer_of(rows: list[Row], row: Row) -> Row:
    """Return transformers' row for the same prompt and rows; {} for a method other than the base."""
    if row["program"] != "jax_generation":
        return {}
    return the(rows, program="torch_generation", prompt=row["prompt"], rows=row["rows"])


def bars(rows: list[Row]) -> list[Bar]:
    """Return the bars: prefill rate, decode rate over the copy rate and over the peer's, compile time."""
    ours = [row for row in rows if row["program"] == "jax_generation" and "prefill_s" in row]
    long = [row for row in ours if row["prompt"] == 32_768 and row["method"] == "base"]

    faster = {name(row): ratio(peer_of(rows, row).get("decode_ms"), row["decode_ms"]) for row in long}
    decode_ms = {row["prompt"]: row["decode_ms"] for row in ours if row["method"] == "lm_infinite" and row["rows"] == 1}
    grows = ratio(decode_ms.get(65_536), decode_ms.get(32_768))
    return [
        Bar(
            "prefill of 32K, tokens a second", 25_000, {name(r): r["prefill_tokens_s"] for r in long if r["rows"] == 1}
        ),
        Bar("decode at 32K, of the copy rate", 0.80, {name(r): r["of_copy"] for r in long if r.get("of_copy")}),
        Bar("decode at 32K, speed over transformers'", 2.0, {where: x for where, x in faster.items() if x}),
        Bar("LM-Infinite, decode at 64K over 32K", 1.05, {"ms a token": grows} if grows else {}, at_most=True),
        Bar("compile seconds", 30, {name(row): row["compile_s"] for row in ours}, at_most=True),
    ]


PAGE = Page("generation", "Generation beside transformers", ABOUT, HEADER, lines, bars, name)

if __name__ == "__main__":
    main(lambda terms, sizes: play(PAGE, cases(terms, sizes), terms), Sizes)
