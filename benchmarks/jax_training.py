"""One case of training in longjax: the model, the recipe and the step as an experiment has them."""

import dataclasses
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Literal

import jax
import numpy as np

from benchmarks.beside import case_main
from benchmarks.kernels import kernels, profiled
from benchmarks.page import Row
from longjax import methods, sharding
from longjax.attention.backends import default_backend
from longjax.config import LLAMA2_7B, TINY, ModelConfig
from longjax.data import RowBatch
from longjax.methods import Method
from longjax.sharding.xla_flags import GPU_OVERLAP
from longjax.study import runner
from longjax.study.presets import PAPER
from longjax.training import memory_estimate
from longjax.training.flops import PEAKS, train_flops
from longjax.training.recipe import Recipe
from longjax.training.remat import Remat
from longjax.training.train_step import TrainState, init_train_state, train_step
from longjax.training.trainer import TrainingRun

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class RandomRows:
    """A data source of random tokens."""

    length: int
    vocab: int
    sha256: str = "random"

    def __call__(self, first: int, count: int) -> RowBatch:
        tokens_BS = np.random.default_rng(first).integers(0, self.vocab, (count, self.length + 1), np.int32)
        return RowBatch(tokens_BS, np.ones((count, self.length), np.float32))


def run_of(
    cfg: ModelConfig, length: int, remat: Remat, recipe: Recipe, mesh: jax.sharding.Mesh | None, method: str
) -> TrainingRun:
    """Return the training run of an experiment with random rows."""
    preset = dataclasses.replace(
        PAPER, model=cfg, extended=length, extend=recipe, remat=remat, attention=default_backend()
    )
    trained = Method() if method == "base" else methods.METHODS[method]()
    rows, at = RandomRows(length, cfg.vocab), runner.RunConfig(mesh=mesh)
    return runner.training_run(cfg, trained, preset, recipe, rows, pathlib.Path(), at)


def init_state(run: TrainingRun) -> TrainState:
    """Return the state before the first step, initialized in its shards."""

    def init() -> TrainState:
        return init_train_state(run.model, run.recipe, runner.random_params(run.model.cfg, 0))

    return sharding.init_sharded(init, run.mesh) if run.mesh else jax.jit(init)()


def measure(
    length: int, layers: int, steps: int, tiny: bool, state: Literal["float32", "bfloat16"] = "float32",
    ema: float = 0.0, remat: Remat = "attention", rows: int | None = None, micro_rows: int | None = None,
    method: str = "yarn", fsdp: int = 1, seq: int = 1, profile: int = 0,
) -> Iterator[Row]:  # fmt: skip
    """Measure one case."""
    os.environ["XLA_FLAGS"] = (
        f"{GPU_OVERLAP} {os.environ.get('XLA_FLAGS', '')}"  # as experiments do; the last one counts
    )
    mesh = sharding.make_mesh(fsdp=fsdp, seq=seq) if fsdp * seq > 1 else None
    cfg = dataclasses.replace(TINY if tiny else LLAMA2_7B, layers=layers)
    rows, devices = rows or fsdp, fsdp * seq
    recipe = Recipe(batch_size=rows, micro_batch_size=micro_rows, ema_decay=ema, state_dtype=state)
    run = run_of(cfg, length, remat, recipe, mesh, method)
    with runner.RunConfig(mesh=mesh).scope(cfg, rows, length):
        train_state, batch = init_state(run), run.batch(0)
        start = time.perf_counter()
        traced = train_step.trace(run.model, run.recipe, train_state, batch)
        estimate = sum(memory_estimate.estimate(traced, train_state, batch))
        step_once = traced.lower().compile()
        compile_s, compiled = time.perf_counter() - start, memory_estimate.compiled_bytes(step_once) or 0
        losses, times = [], []
        for _ in range(steps + 1):
            start = time.perf_counter()
            train_state, numbers = step_once(train_state, batch)
            losses.append(float(numbers["loss"]))  # blocks
            times.append(time.perf_counter() - start)
    step_s = float(np.median(times[1:]))
    flops = train_flops(cfg, run.model.method, length, rows * length).useful
    yield {
        "gpus": devices, "rows": rows, "step_s": step_s, "tokens_s_gpu": rows * length / step_s / devices,
        "mfu": flops / step_s / devices / PEAKS["NVIDIA H200"], "tflops": flops / step_s / devices / 1e12,
        "peak_gib": peak_gib(), "estimate_gib": estimate / GIB, "compiled_gib": compiled / GIB,
        "compile_s": compile_s, "losses": losses,
    }  # fmt: skip
    if profile:
        yield profiled(lambda: kernels(lambda: step_once(train_state, batch)))


def peak_gib() -> float | None:
    """Return the peak memory of the first device; None: not known (CPUs)."""
    stats = jax.local_devices()[0].memory_stats()
    return stats["peak_bytes_in_use"] / GIB if stats else None


if __name__ == "__main__":
    case_main(measure)
