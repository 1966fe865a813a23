"""What each method costs: time and memory of a prompt and of a token after it, by length, on one device.

python -m benchmarks.methods                      the study's model on one GPU: two minutes
python -m benchmarks.methods --preset=mini --lengths=1024,2048 --methods=base,self_extend
python -m benchmarks.methods --tiny               on a CPU: shows that it runs

All programs are compiled side by side first; then nothing but the one that is measured runs on the device.
"""

import concurrent.futures
import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.stages import Compiled

from benchmarks.beside import Terms, command, main, tried
from benchmarks.jax_generation import GIB, random_weights
from benchmarks.machine import machine
from benchmarks.page import Page, Row, number, write
from longjax.attention.backends import default_backend, default_decode_backend
from longjax.attention.rope import stack_ropes
from longjax.cli.names import integers, preset_by_name
from longjax.inference.decode import DecodeState, StopRules, decode, prefill
from longjax.methods import METHODS
from longjax.methods.method import Method, with_inserted_token
from longjax.model.llama import Llama
from longjax.sharding.cache_parallel import init_sharded_cache
from longjax.study.presets import StudyConfig
from longjax.training.memory_estimate import compiled_bytes

TINY = ("mini", "base,pi,self_extend,landmark", "128,256")
ROUND = 128  # rows have a multiple of so many places


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The preset, the methods and the sizes to measure."""

    preset: str = "h200_100m"  # whose model, methods and their settings
    methods: str | None = None  # joined by commas; None: those of the preset
    lengths: str = "2048,4096,8192,16384,32768"  # tokens of the prompt
    new: int = 32  # tokens of one timing of decoding
    runs: int = 5  # timings, of which the median counts


HEADER = (
    "methods", "prompt", "prefill ms", "tokens/s", "decode ms a token", "prefill GiB", "decode GiB", "compile s",
)  # fmt: skip
ABOUT = """One row of random tokens, random weights in bfloat16, greedy: the programs of `Speaker`, as the evaluators
call it, without host work. Methods of one line are one program: they differ in numbers that it is given (the
frequencies, which are made once a length and not timed), so it was measured once for all of them; LongLoRA attends in
groups only while it trains, and its adapters are added to the weights. Landmark has its memory of blocks, from which
each query opens the best; its inserted tokens are part of its times. Prefill: until the first token of the answer,
caches written; decode: each token more. GiB: the most that the program holds at a time, by its compiler, weights and
caches included. Times are medians."""


class Asked(NamedTuple):
    """What `begin` and `go_on` are given beside model and weights."""

    like: int
    rope: Any
    tokens_BC: np.ndarray
    length_B: np.ndarray
    rules: StopRules


class Subject(NamedTuple):
    """A program to measure: a model for prompts of `length` tokens, and the methods for which it is the same."""

    model: Llama
    names: tuple[str, ...]
    length: int


class Ready(NamedTuple):
    begin: Compiled
    go_on: Compiled
    seconds: float


def as_inference(method: Method) -> Method:
    """-> without what no program of inference knows: numbers that it is given, training, adapters once added."""
    return Method(attention=method.attention, insert_tokens=method.insert_tokens)


def subjects(preset: StudyConfig, names: Sequence[str], lengths: Sequence[int]) -> list[Subject]:
    """-> every program once, the shortest prompts first."""
    softmax, models = preset.attention or default_backend(), {}
    for name in names:
        if name not in METHODS:
            raise ValueError(f"--methods={','.join(names)}: {name} is unknown: one of {', '.join(METHODS)}")
        method = as_inference(METHODS[name](**preset.settings.get(name, {})))
        model = Llama(with_inserted_token(preset.model, method), method, backend=softmax)
        models.setdefault(model, []).append(name)
    return [Subject(model, tuple(alike), n) for n in sorted(lengths) for model, alike in models.items()]


def asked(subject: Subject, more: int) -> Asked:
    """A prompt with room for `more` tokens after it. Nothing ends the answer."""
    model, length = subject.model, subject.length + more
    cfg, insert = model.cfg, model.method.insert_tokens
    words = cfg.vocab - (insert is not None)
    tokens_BT = np.random.default_rng(0).integers(0, words, (1, length), np.int32)
    if insert is not None:
        tokens_BT, is_own_BT = insert(tokens_BT, cfg.vocab - 1)
        prompt = int(np.flatnonzero(is_own_BT[0])[subject.length - 1]) + 1
    else:
        prompt = subject.length
    tokens_BC = np.zeros((1, -(-tokens_BT.shape[1] // ROUND) * ROUND), np.int32)
    tokens_BC[:, :prompt] = tokens_BT[:, :prompt]
    rope = stack_ropes([model.method.rope(cfg, length, {}, None)])
    end, most_B = jnp.int32(-1), jnp.full(1, length, jnp.int32)
    rules = StopRules(end, jnp.int32(words), jnp.full((1, 1), end), jnp.zeros_like(most_B), most_B)
    return Asked(length, rope, tokens_BC, np.array([prompt], np.int32), rules)


def compiled(subject: Subject, params: Any, more: int) -> Ready:
    """`params` may be shapes."""
    start, given = time.perf_counter(), asked(subject, more)
    cache = jax.eval_shape(lambda: fresh(subject, given))
    first = prefill.lower(subject.model, given.like, params, given.rope, cache, *given[2:])
    rows = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), first.out_info)
    writer = dataclasses.replace(subject.model, backend=default_decode_backend())
    then = decode.lower(writer, given.like, params, given.rope, rows, given.rules, np.int32(1))
    return Ready(first.compile(), then.compile(), time.perf_counter() - start)


def fresh(subject: Subject, given: Asked) -> Any:
    return init_sharded_cache(subject.model, 1, given.tokens_BC.shape[1], given.like, None)


def measured(subject: Subject, ready: Ready, params: Any, sizes: Sizes) -> Row:
    given, prefill, decode = asked(subject, room(sizes)), [], []

    def read() -> DecodeState:
        cache = jax.block_until_ready(fresh(subject, given))
        rows, seconds = timed(lambda: ready.begin(params, given.rope, cache, *given[2:]))
        prefill.append(seconds)
        return rows

    def more(rows: DecodeState) -> DecodeState:
        said = int(rows.num_generated_B[0])
        rows, seconds = timed(lambda: ready.go_on(params, given.rope, rows, given.rules, np.int32(sizes.new)))
        decode.append(seconds / (int(rows.num_generated_B[0]) - said))
        return rows

    rows = [read() for _ in range(sizes.runs + 1)][-1]
    for _ in range(sizes.runs + 1):
        rows = more(rows)
    first, then = (statistics.median(times[1:]) for times in (prefill, decode))  # the first warms up
    return {
        "prefill_ms": 1e3 * first, "prefill_tokens_s": subject.length / first, "decode_ms": 1e3 * then,
        "prefill_gib": gib(ready.begin), "decode_gib": gib(ready.go_on), "compile_s": ready.seconds,
        "prefill_times_ms": [1e3 * x for x in prefill[1:]], "decode_times_ms": [1e3 * x for x in decode[1:]],
    }  # fmt: skip


def room(sizes: Sizes) -> int:
    return (sizes.runs + 1) * sizes.new + 1


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    done = jax.block_until_ready(work())
    return done, time.perf_counter() - start


def gib(program: Compiled) -> float | None:
    held = compiled_bytes(program)
    return None if held is None else held / GIB


def play(terms: Terms, sizes: Sizes) -> None:
    """Results are written after every program, so that a run cut short keeps what it has."""
    preset, names, lengths = TINY if terms.tiny else (sizes.preset, sizes.methods, sizes.lengths)
    chosen = preset_by_name(preset)
    todo = subjects(chosen, names.split(",") if names else chosen.methods, integers(lengths, "lengths"))
    all_rows: list[Row] = []
    for rows in found(todo, terms, sizes):
        all_rows += rows
        print(f"# {rows[0]['measured_as']} {rows[0]['length']}: {rows[0].get('error', 'done')}", flush=True)
        write(PAGE, all_rows, (command(), machine()), terms.folder(PAGE.name))
    print(write(PAGE, all_rows, (command(), machine()), None), flush=True)


def found(todo: Sequence[Subject], terms: Terms, sizes: Sizes) -> Iterator[list[Row]]:
    """-> of every subject, a row for each of its methods."""
    weights: dict[Any, Any] = {}
    for subject in todo:
        weights.setdefault(subject.model.cfg, random_weights(subject.model.cfg))
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(compiled, s, weights[s.model.cfg], room(sizes)) for s in todo]
        concurrent.futures.wait(jobs)
    print(f"# {2 * len(todo)} programs compiled in {time.perf_counter() - began:.0f} s", flush=True)
    for subject, job in zip(todo, jobs, strict=True):
        row: Row = {}
        with tried(row):
            if time.perf_counter() - began > terms.budget:
                raise TimeoutError(f"skipped: --budget={terms.budget:g} was used up")
            row |= measured(subject, job.result(), weights[subject.model.cfg], sizes)
        yield [about(name, subject) | row for name in subject.names]


def about(name: str, subject: Subject) -> Row:
    row = {"program": "methods", "method": name, "measured_as": subject.names[0], "length": subject.length}
    return {"case": f"methods {name} length={subject.length}"} | row


def lines(rows: list[Row]) -> list[list[str]]:
    """One line a program."""
    return [line(row, rows) for row in rows if row["method"] == row["measured_as"] and "error" not in row]


def line(row: Row, rows: list[Row]) -> list[str]:
    alike = [r["method"] for r in rows if (r["measured_as"], r["length"]) == (row["method"], row["length"])]
    times = [number(row["prefill_ms"]), number(row["prefill_tokens_s"], 0), number(row["decode_ms"], 3)]
    cache = [number(row["prefill_gib"], 3), number(row["decode_gib"], 3), number(row["compile_s"], 1)]
    return [" ".join(alike), str(row["length"]), *times, *cache]


PAGE = Page("methods", "What each method costs", ABOUT, HEADER, lines, lambda rows: [])

if __name__ == "__main__":
    main(play, Sizes)
