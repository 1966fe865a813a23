"""What each method costs: time and memory of a prompt and of a token after it, by length, on one device.

python -m benchmarks.methods                      the study's model on one GPU: two minutes
python -m benchmarks.methods --preset=mini --lengths=1024,2048 --methods=base,self_extend
python -m benchmarks.methods --tiny               on a CPU: shows that it runs

All programs are compiled side by side first; then only the measured one runs on the device.
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
ROUND = 128  # rows are padded to a multiple of this many tokens


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
ABOUT = """One row of random tokens, random weights in bfloat16, greedy: the programs of `Generator`, as the
evaluators call it, without host work. Methods of one line are one program: they differ in its arguments (the
frequencies, which are computed once a length and not timed), so it was measured once for all of them; LongLoRA attends
in groups only while it trains, and its adapters are added to the weights. Landmark has its memory of blocks, from which
each query opens the best; its inserted tokens are part of its times. Prefill: until the first token of the answer,
caches written; decode: each token more. GiB: the most that the program holds at a time, by its compiler, weights and
caches included. Times are medians."""


class Inputs(NamedTuple):
    """Arguments of prefill and decode beside model and weights.

    Attributes:
      rope_length: sequence length that the frequencies are of.

    """

    rope_length: int
    rope: Any
    tokens_BC: np.ndarray
    length_B: np.ndarray
    rules: StopRules


class Program(NamedTuple):
    """A program to measure: a model for prompts of `length` tokens, and the methods for which it is the same."""

    model: Llama
    names: tuple[str, ...]
    length: int


class CompiledProgram(NamedTuple):
    """Prefill and decode, and the seconds that compiling both took."""

    prefill: Compiled
    decode: Compiled
    seconds: float


def as_inference(method: Method) -> Method:
    """Return the method without what no inference program depends on: its numbers, training, merged adapters."""
    return Method(attention=method.attention, insert_tokens=method.insert_tokens)


def distinct_programs(preset: StudyConfig, names: Sequence[str], lengths: Sequence[int]) -> list[Program]:
    """Return every program once, the shortest prompts first."""
    backend, models = preset.attention or default_backend(), {}
    for name in names:
        if name not in METHODS:
            raise ValueError(f"--methods={','.join(names)}: {name} is unknown: one of {', '.join(METHODS)}")
        method = as_inference(METHODS[name](**preset.settings.get(name, {})))
        model = Llama(with_inserted_token(preset.model, method), method, backend=backend)
        models.setdefault(model, []).append(name)
    return [Program(model, tuple(alike), n) for n in sorted(lengths) for model, alike in models.items()]


def prompt_inputs(program: Program, more: int) -> Inputs:
    """Return a prompt with room for `more` tokens after it; no token ends the answer."""
    model, length = program.model, program.length + more
    cfg, insert = model.cfg, model.method.insert_tokens
    vocab = cfg.vocab - (insert is not None)
    tokens_BT = np.random.default_rng(0).integers(0, vocab, (1, length), np.int32)
    if insert is not None:
        tokens_BT, is_text_BT = insert(tokens_BT, cfg.vocab - 1)
        prompt = int(np.flatnonzero(is_text_BT[0])[program.length - 1]) + 1
    else:
        prompt = program.length
    tokens_BC = np.zeros((1, -(-tokens_BT.shape[1] // ROUND) * ROUND), np.int32)
    tokens_BC[:, :prompt] = tokens_BT[:, :prompt]
    rope = stack_ropes([model.method.rope(cfg, length, {}, None)])
    end, most_B = jnp.int32(-1), jnp.full(1, length, jnp.int32)
    rules = StopRules(end[None], jnp.int32(vocab), jnp.full((1, 1), end), jnp.zeros_like(most_B), most_B)
    return Inputs(length, rope, tokens_BC, np.array([prompt], np.int32), rules)


def compile_program(program: Program, params: Any, more: int) -> CompiledProgram:
    """Compile prefill and decode; `params` may be shapes."""
    start, inputs = time.perf_counter(), prompt_inputs(program, more)
    cache = jax.eval_shape(lambda: empty_cache(program, inputs))
    first = prefill.lower(program.model, inputs.rope_length, params, inputs.rope, cache, *inputs[2:])
    rows = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), first.out_info)
    writer = dataclasses.replace(program.model, backend=default_decode_backend())
    then = decode.lower(writer, inputs.rope_length, params, inputs.rope, rows, inputs.rules, np.int32(1))
    return CompiledProgram(first.compile(), then.compile(), time.perf_counter() - start)


def empty_cache(program: Program, inputs: Inputs) -> Any:
    """Return an empty KV cache for the prompt and its answer."""
    return init_sharded_cache(program.model, 1, inputs.tokens_BC.shape[1], inputs.rope_length, None)


def measure(program: Program, ready: CompiledProgram, params: Any, sizes: Sizes) -> Row:
    """Return times and memory of one program."""
    inputs, prefill_times, decode_times = prompt_inputs(program, answer_tokens(sizes)), [], []

    def run_prefill() -> DecodeState:
        cache = jax.block_until_ready(empty_cache(program, inputs))
        rows, seconds = timed(lambda: ready.prefill(params, inputs.rope, cache, *inputs[2:]))
        prefill_times.append(seconds)
        return rows

    def run_decode(rows: DecodeState) -> DecodeState:
        before = int(rows.num_generated_B[0])
        rows, seconds = timed(lambda: ready.decode(params, inputs.rope, rows, inputs.rules, np.int32(sizes.new)))
        decode_times.append(seconds / (int(rows.num_generated_B[0]) - before))
        return rows

    rows = [run_prefill() for _ in range(sizes.runs + 1)][-1]
    for _ in range(sizes.runs + 1):
        rows = run_decode(rows)
    first, then = (statistics.median(times[1:]) for times in (prefill_times, decode_times))  # first: warm-up
    return {
        "prefill_ms": 1e3 * first, "prefill_tokens_s": program.length / first, "decode_ms": 1e3 * then,
        "prefill_gib": gib(ready.prefill), "decode_gib": gib(ready.decode), "compile_s": ready.seconds,
        "prefill_times_ms": [1e3 * x for x in prefill_times[1:]],
        "decode_times_ms": [1e3 * x for x in decode_times[1:]],
    }  # fmt: skip


def answer_tokens(sizes: Sizes) -> int:
    """Return the tokens that all timings of decoding generate."""
    return (sizes.runs + 1) * sizes.new + 1


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result and the seconds until it is there."""
    start = time.perf_counter()
    done = jax.block_until_ready(work())
    return done, time.perf_counter() - start


def gib(program: Compiled) -> float | None:
    """Return the peak memory of a program by its compiler; None: not known."""
    peak = compiled_bytes(program)
    return None if peak is None else peak / GIB


def play(terms: Terms, sizes: Sizes) -> None:
    """Measure all programs; results are written after each, so that a run cut short keeps them."""
    preset, names, lengths = TINY if terms.tiny else (sizes.preset, sizes.methods, sizes.lengths)
    config = preset_by_name(preset)
    todo = distinct_programs(config, names.split(",") if names else config.methods, integers(lengths, "lengths"))
    all_rows: list[Row] = []
    for rows in measure_all(todo, terms, sizes):
        all_rows += rows
        print(f"# {rows[0]['measured_as']} {rows[0]['length']}: {rows[0].get('error', 'done')}", flush=True)
        write(PAGE, all_rows, (command(), machine()), terms.folder(PAGE.name))
    print(write(PAGE, all_rows, (command(), machine()), None), flush=True)


def measure_all(todo: Sequence[Program], terms: Terms, sizes: Sizes) -> Iterator[list[Row]]:
    """Yield for every program a row for each of its methods."""
    weights: dict[Any, Any] = {}
    for program in todo:
        weights.setdefault(program.model.cfg, random_weights(program.model.cfg))
    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(compile_program, s, weights[s.model.cfg], answer_tokens(sizes)) for s in todo]
        concurrent.futures.wait(jobs)
    print(f"# {2 * len(todo)} programs compiled in {time.perf_counter() - start:.0f} s", flush=True)
    for program, job in zip(todo, jobs, strict=True):
        row: Row = {}
        with tried(row):
            if time.perf_counter() - start > terms.budget:
                raise TimeoutError(f"skipped: --budget={terms.budget:g} was used up")
            row |= measure(program, job.result(), weights[program.model.cfg], sizes)
        yield [about(name, program) | row for name in program.names]


def about(name: str, program: Program) -> Row:
    """Return the fields of a row beside its measurements."""
    row = {"program": "methods", "method": name, "measured_as": program.names[0], "length": program.length}
    return {"case": f"methods {name} length={program.length}"} | row


def lines(rows: list[Row]) -> list[list[str]]:
    """Return one line a program."""
    return [line(row, rows) for row in rows if row["method"] == row["measured_as"] and "error" not in row]


def line(row: Row, rows: list[Row]) -> list[str]:
    """Return the line of a program with all of its methods."""
    alike = [r["method"] for r in rows if (r["measured_as"], r["length"]) == (row["method"], row["length"])]
    times = [number(row["prefill_ms"]), number(row["prefill_tokens_s"], 0), number(row["decode_ms"], 3)]
    cache = [number(row["prefill_gib"], 3), number(row["decode_gib"], 3), number(row["compile_s"], 1)]
    return [" ".join(alike), str(row["length"]), *times, *cache]


PAGE = Page("methods", "What each method costs", ABOUT, HEADER, lines, lambda rows: [])

if __name__ == "__main__":
    main(play, Sizes)
