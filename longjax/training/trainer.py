"""The training loop: prefetches batches, steps, saves checkpoints, and exits cleanly when it is preempted."""

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
from longjax.ranges import check_range
from longjax.sharding.out_of_memory import explain_oom
from longjax.training import memory_estimate
from longjax.training.batch import as_batch, prefetch
from longjax.training.checkpoint import RunMetadata, TrainCheckpointer
from longjax.training.flops import peak_flops, train_flops
from longjax.training.init_from import init_from_checkpoint
from longjax.training.metrics_writer import MetricsWriter
from longjax.training.profiler import StepProfiler
from longjax.training.recipe import Recipe
from longjax.training.step_logger import StepLogger
from longjax.training.throughput import ThroughputMeter
from longjax.training.train_step import TrainState, init_train_state, train_step

Mesh = jax.sharding.Mesh | None  # None: one device
EvalFn = Callable[[dict[str, Any]], dict[str, float]]  # parameters -> metrics of an evaluation during training


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How a training run is saved, evaluated and logged. Nothing here changes its result."""

    save_every: int = 50  # steps between checkpoints
    max_to_keep: int = 2  # newest checkpoints that are not deleted
    keep_period: int | None = None  # also keep checkpoints of steps that this divides; None: only the newest
    eval_every: int | None = None  # steps between evaluations of perplexity and pass keys in training; None: none
    max_skipped_steps: int = 10  # consecutive skipped steps after which the run ends with an error
    tensorboard: bool = False  # also write metrics for TensorBoard, into the run's folder
    wandb: str | None = None  # project of Weights & Biases to log to; None: none
    profile: str | None = None  # steps to trace with jax.profiler, as 10:15 (first and last); None: none

    def __post_init__(self):
        check_range(self, ("save_every", "max_to_keep", "keep_period"), 1)
        check_range(self, ("eval_every", "max_skipped_steps"), 0)


class PreemptedError(Exception):
    """The process was asked to end (SIGTERM, preemption); the state is saved."""


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """A training run.

    Attributes:
      model: with train=True.
      recipe: how to train.
      source: the rows to train on.
      folder: of checkpoints and metrics.
      identity: model and method as JSON; a run resumes only from checkpoints of the same identity.
      mesh: None: one device.
      loop: how to save, evaluate and log.
      init_from: folder of an earlier run, whose last weights this one starts from; None: from the given parameters.
      init_opt_state: take the optimizer state of that run, too.

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
        """Returns the batch of one step, in its layout on the devices."""
        rows = self.source(step * self.recipe.batch_size, self.recipe.batch_size)
        batch = as_batch(rows, self.model.method, self.model.cfg)
        return sharding.place_batch(batch, self.mesh) if self.mesh else batch

    def initial_state(self, params: dict[str, Any]) -> TrainState:
        """Returns the state before the first step."""
        state = init_train_state(self.model, self.recipe, params)
        if self.init_from:
            state = init_from_checkpoint(pathlib.Path(self.init_from), state, self.init_opt_state)
        return state

    def checkpoints(self) -> TrainCheckpointer:
        """Returns the checkpoints of this run."""
        identity = self.identity | {"recipe": dataclasses.asdict(self.recipe)}
        older = functools.partial(made_by_0_1.run_identity, method=self.model.method, identity=identity.get("method"))
        metadata = RunMetadata(identity, self.source.sha256, self.recipe.batch_size, older)
        return TrainCheckpointer(self.folder / "checkpoints", metadata, self.loop.max_to_keep, self.loop.keep_period)

    def metrics_writer(self, first: int) -> contextlib.AbstractContextManager[MetricsWriter | None]:
        """Returns the writer of metrics, on the first host; None on others."""
        if jax.process_index():
            return contextlib.nullcontext()
        return MetricsWriter(self.folder, self.loop.tensorboard, self.loop.wandb, resume_at=first)

    def step_logger(self, log: MetricsWriter | None, report: ProgressFn, shape: tuple[int, int]) -> StepLogger:
        """Returns the logger of steps of `shape`: rows and tokens a row."""
        devices = list(self.mesh.devices.flat) if self.mesh else jax.devices()[:1]
        flops = train_flops(self.model.cfg, self.model.method, shape[1], tokens=1)
        meter = ThroughputMeter(self.recipe.steps, len(devices), flops.useful, flops.full, peak_flops(devices[0]))
        return StepLogger(log, meter, report, self.recipe.steps, shape, self.loop.max_skipped_steps)


def train(run: TrainingRun, params: dict[str, Any], report: ProgressFn, eval_fn: EvalFn | None = None) -> TrainState:
    """Trains to the end of the recipe, from the newest checkpoint if there is one, and returns the final state.

    Args:
      run: what to train.
      params: parameters to start from; their buffers are donated.
      report: gets a progress line for every step.
      eval_fn: evaluates parameters every `run.loop.eval_every` steps.

    Raises:
      PreemptedError: the process was asked to end; the state is saved.
      ValueError: the checkpoints are of another run, memory does not suffice, or too many consecutive steps were
        skipped.

    """
    run.folder.mkdir(parents=True, exist_ok=True)
    last, loop = run.recipe.steps, run.loop
    with run.checkpoints() as checkpoints, catch_sigterm() as sigterm_received:
        state = checkpoints.restore(run.initial_state(sharding.shard_params(params, run.mesh) if run.mesh else params))
        if (first := int(state.step)) >= last:
            return state
        example = run.batch(first)
        step_once = compile_step(run, state, example, report)
        closing = contextlib.closing
        with (
            run.metrics_writer(first) as log,
            closing(StepProfiler(loop.profile, run.folder / "profile")) as profiler,
            closing(prefetch(run.batch, range(first, last))) as batches,
        ):
            logger = run.step_logger(log, report, example["tokens_BT"].shape)
            for step, batch in enumerate(logger.timed(batches), first):
                profiler.before(step)
                state, numbers = step_once(state, batch)
                profiler.after(step, numbers)
                more: dict[str, float] = {}
                if eval_fn and loop.eval_every and (step + 1) % loop.eval_every == 0:
                    with logger.untimed(numbers):
                        more = eval_fn(state.params())
                logger.log_async(step, numbers, more)
                preempted = sigterm_received() or checkpoints.preempted(step)
                if preempted or (step + 1) % loop.save_every == 0 or step + 1 == last:
                    logger.flush()
                    checkpoints.save(state)
                if preempted and step + 1 < last:
                    raise PreemptedError(f"preempted: checkpoint saved at step {step + 1} of {last}")
    return state


def compile_step(run: TrainingRun, state: TrainState, batch: dict[str, Any], report: ProgressFn) -> Callable[..., Any]:
    """Returns the compiled `train_step` for these shapes.

    Reports the estimated device memory before it compiles, and writes it to memory.txt, beside the compiler's figure.
    """
    traced = train_step.trace(run.model, run.recipe, state, batch)
    estimate = memory_estimate.estimate(traced, state, batch)
    limit = memory_estimate.limit_bytes(jax.local_devices()[0])
    summary = memory_estimate.summary_line(estimate, limit)
    report(0.0, summary)
    message = (
        f"out of memory: {summary}; reduce it with --micro_batch_size, --remat=attention or full, more devices in "
        "--mesh_fsdp or --mesh_seq, --state_dtype=bfloat16, --ema_decay=0, or --lora_rank"
    )
    with explain_oom(message):
        step_once = traced.lower().compile()
    if jax.process_index() == 0:
        table = memory_estimate.memory_table(estimate, memory_estimate.compiled_bytes(step_once), limit)
        files.write_atomically(run.folder / "memory.txt", f"{table}\n".encode())

    def step(state: TrainState, batch: dict[str, Any]) -> Any:
        with explain_oom(message):
            return step_once(state, batch)

    return step


@contextlib.contextmanager
def catch_sigterm() -> Iterator[Callable[[], bool]]:
    """Gives a function that returns whether SIGTERM was received, which schedulers send some time before they kill."""
    received = threading.Event()
    if threading.current_thread() is not threading.main_thread() or jax.process_count() > 1:  # then JAX handles it
        yield received.is_set
        return
    handler = signal.signal(signal.SIGTERM, lambda *_: received.set())
    try:
        yield received.is_set
    finally:
        signal.signal(signal.SIGTERM, handler)
