"""The training loop: batches ahead, steps, checkpoints, the end of the recipe or of the machine's patience."""

import contextlib
import dataclasses
import functools
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax

from longjax import files, made_by_0_1, sharding
from longjax.data import DataSource
from longjax.model.llama import Llama
from longjax.progress import ProgressFn
from longjax.training import memory_estimate
from longjax.training.batch import as_batch, prefetch
from longjax.training.checkpoint import RunMetadata, TrainCheckpointer, init_from_checkpoint
from longjax.training.flops import peak_flops, train_flops
from longjax.training.metrics_writer import MetricsWriter
from longjax.training.profiler import StepProfiler
from longjax.training.step_logger import StepLogger
from longjax.training.throughput import ThroughputMeter
from longjax.training.train_step import Recipe, TrainState, init_train_state, train_step

Mesh = jax.sharding.Mesh | None  # None: one device
EvalFn = Callable[[dict[str, Any]], dict[str, float]]  # parameters -> what evaluators say of them


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How a training run saves, watches itself and speaks. Nothing here changes its result."""

    save_every: int = 50  # steps: what a kill may cost
    max_to_keep: int = 2  # newest checkpoints
    keep_period: int | None = None  # checkpoints of every so-many-th step stay for good
    eval_every: int | None = None  # steps between perplexity and pass keys in training
    max_skipped_steps: int = 10  # steps left out in a row, before the run gives up
    tensorboard: bool = False
    wandb: str | None = None  # project
    profile: str | None = None  # first:last step to trace


class PreemptedError(Exception):
    """The machine is wanted back; all is saved."""


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """One training: of what, how, on which rows, where.

    Attributes:
      model: with train=True.
      folder: of its checkpoints and its log.
      what: model and method in words that JSON can say; a checkpoint goes on only where they are the same.
      init_from: folder of an earlier training, whose last weights are the first of this one.
      moments: whether the optimiser's moments come from there as well.

    """

    model: Llama
    recipe: Recipe
    source: DataSource
    folder: pathlib.Path
    identity: dict[str, Any]
    mesh: Mesh = None
    loop: LoopConfig = LoopConfig()
    init_from: str | None = None
    init_opt_state: bool = False

    def batch(self, step: int) -> dict[str, Any]:
        """-> the arrays of one step, in their places."""
        rows = self.source(step * self.recipe.batch_size, self.recipe.batch_size)
        batch = as_batch(rows, self.model.method, self.model.cfg)
        return sharding.place_batch(batch, self.mesh) if self.mesh else batch

    def initial_state(self, params: dict[str, Any]) -> TrainState:
        """-> the state before the first step."""
        state = init_train_state(self.model, self.recipe, params)
        return (
            init_from_checkpoint(pathlib.Path(self.init_from), state, self.init_opt_state) if self.init_from else state
        )

    def checkpoints(self) -> TrainCheckpointer:
        identity = self.identity | {"recipe": dataclasses.asdict(self.recipe)}
        older = functools.partial(made_by_0_1.training, method=self.model.method, identity=identity.get("method"))
        about = RunMetadata(identity, self.source.sha256, self.recipe.batch_size, older)
        return TrainCheckpointer(self.folder / "checkpoints", about, self.loop.max_to_keep, self.loop.keep_period)

    def metrics_writer(self, first: int) -> contextlib.AbstractContextManager[MetricsWriter | None]:
        """-> of the first host alone."""
        if jax.process_index():
            return contextlib.nullcontext()
        return MetricsWriter(self.folder, self.loop.tensorboard, self.loop.wandb, resume_at=first)

    def step_logger(self, log: MetricsWriter | None, report: ProgressFn, shape: tuple[int, int]) -> StepLogger:
        devices = list(self.mesh.devices.flat) if self.mesh else jax.devices()[:1]
        flops = train_flops(self.model.cfg, self.model.method, shape[1], tokens=1)
        meter = ThroughputMeter(self.recipe.steps, len(devices), flops.useful, flops.full, peak_flops(devices[0]))
        return StepLogger(log, meter, report, self.recipe.steps, shape, self.loop.max_skipped_steps)


def train(run: TrainingRun, params: dict[str, Any], report: ProgressFn, eval_fn: EvalFn | None = None) -> TrainState:
    """Trains to the end of the recipe, from the newest checkpoint if there is one.

    Raises PreemptedError after saving, if told to end; ValueError if too many steps in a row were left out.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    last, loop = run.recipe.steps, run.loop
    with run.checkpoints() as checkpoints, sigterm_received() as asked:
        state = checkpoints.restore(run.initial_state(sharding.shard_params(params, run.mesh) if run.mesh else params))
        if (first := int(state.step)) >= last:
            return state
        example = run.batch(first)
        step_once = compile_step(run, state, example, report)
        closing = contextlib.closing
        with (
            run.metrics_writer(first) as log,
            closing(StepProfiler(loop.profile, run.folder / "profile")) as tracer,
            closing(prefetch(run.batch, range(first, last))) as batches,
        ):
            diary = run.step_logger(log, report, example["tokens_BT"].shape)
            for step, batch in enumerate(diary.timed(batches), first):
                tracer.before(step)
                state, numbers = step_once(state, batch)
                tracer.after(step, numbers)
                more: dict[str, float] = {}
                if eval_fn and loop.eval_every and (step + 1) % loop.eval_every == 0:
                    with diary.untimed(numbers):
                        more = eval_fn(state.params())
                diary.log_async(step, numbers, more)
                ending = asked() or checkpoints.preempted(step)
                if ending or (step + 1) % loop.save_every == 0 or step + 1 == last:
                    diary.flush()
                    checkpoints.save(state)
                if ending and step + 1 < last:
                    raise PreemptedError(f"told to end: saved after step {step + 1} of {last}")
    return state


def compile_step(run: TrainingRun, state: TrainState, batch: dict[str, Any], report: ProgressFn) -> Callable[..., Any]:
    """-> train_step for these shapes. Says what memory it will take before it is compiled, and what the compiler
    says, beside each other in memory.txt.
    """
    traced = train_step.trace(run.model, run.recipe, state, batch)
    expected, limit = (
        memory_estimate.estimate(traced, state, batch),
        memory_estimate.limit_bytes(jax.local_devices()[0]),
    )
    report(0.0, memory_estimate.summary_line(expected, limit))
    with explain_oom(expected, limit):
        step_once = traced.lower().compile()
    if jax.process_index() == 0:
        table = memory_estimate.memory_table(expected, memory_estimate.compiled_bytes(step_once), limit)
        files.write_atomically(run.folder / "memory.txt", f"{table}\n".encode())

    def step(state: TrainState, batch: dict[str, Any]) -> Any:
        with explain_oom(expected, limit):
            return step_once(state, batch)

    return step


@contextlib.contextmanager
def explain_oom(expected: memory_estimate.MemoryEstimate, limit: int | None) -> Iterator[None]:
    """Running out of memory is a mistake in the flags: what would help?"""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ValueError(
            f"out of memory: {memory_estimate.summary_line(expected, limit)}; reduce it with --micro_batch_size, "
            "--remat=attention or full, more devices in --mesh_fsdp or --mesh_seq, --state_dtype=bfloat16, "
            "--ema_decay=0, or --lora_rank"
        ) from error


@contextlib.contextmanager
def sigterm_received() -> Iterator[Callable[[], bool]]:
    """-> whether SIGTERM has come, which schedulers send a while before they kill."""
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread() or jax.process_count() > 1:  # then JAX listens
        yield told.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        yield told.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
