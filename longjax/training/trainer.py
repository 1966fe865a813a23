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
from longjax.data import Source
from longjax.model.llama import Llama
from longjax.progress import Report
from longjax.training import memory_estimate as memory
from longjax.training.batch import ahead, as_batch
from longjax.training.checkpoint import About, Checkpoints, begun_from
from longjax.training.flops import peak_flops, train_flops
from longjax.training.metrics_writer import Log
from longjax.training.profiler import Tracer
from longjax.training.step_logger import Diary
from longjax.training.throughput import Meter
from longjax.training.train_step import Recipe, State, new_state, train_step

Mesh = jax.sharding.Mesh | None  # None: one device
Probe = Callable[[dict[str, Any]], dict[str, float]]  # parameters -> what evaluators say of them


@dataclasses.dataclass(frozen=True)
class Loop:
    """How a training run saves, watches itself and speaks. Nothing here changes its result."""

    save_every: int = 50  # steps: what a kill may cost
    keep: int = 2  # newest checkpoints
    keep_every: int | None = None  # checkpoints of every so-many-th step stay for good
    probe_every: int | None = None  # steps between perplexity and pass keys in training
    most_skipped: int = 10  # steps left out in a row, before the run gives up
    tensorboard: bool = False
    wandb: str | None = None  # project
    profile: str | None = None  # first:last step to trace


class PreemptedError(Exception):
    """The machine is wanted back; all is saved."""


@dataclasses.dataclass(frozen=True)
class Run:
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
    source: Source
    folder: pathlib.Path
    what: dict[str, Any]
    mesh: Mesh = None
    loop: Loop = Loop()
    init_from: str | None = None
    moments: bool = False

    def batch(self, step: int) -> dict[str, Any]:
        """-> the arrays of one step, in their places."""
        rows = self.source(step * self.recipe.rows, self.recipe.rows)
        batch = as_batch(rows, self.model.method, self.model.cfg)
        return sharding.place_batch(batch, self.mesh) if self.mesh else batch

    def begin(self, params: dict[str, Any]) -> State:
        """-> the state before the first step."""
        state = new_state(self.model, self.recipe, params)
        return begun_from(pathlib.Path(self.init_from), state, self.moments) if self.init_from else state

    def checkpoints(self) -> Checkpoints:
        what = self.what | {"recipe": dataclasses.asdict(self.recipe)}
        older = functools.partial(made_by_0_1.training, method=self.model.method, identity=what.get("method"))
        about = About(what, self.source.sha256, self.recipe.rows, older)
        return Checkpoints(self.folder / "checkpoints", about, self.loop.keep, self.loop.keep_every)

    def log(self, first: int) -> contextlib.AbstractContextManager[Log | None]:
        """-> of the first host alone."""
        if jax.process_index():
            return contextlib.nullcontext()
        return Log(self.folder, self.loop.tensorboard, self.loop.wandb, resume_at=first)

    def diary(self, log: Log | None, report: Report, shape: tuple[int, int]) -> Diary:
        devices = list(self.mesh.devices.flat) if self.mesh else jax.devices()[:1]
        flops = train_flops(self.model.cfg, self.model.method, shape[1], tokens=1)
        meter = Meter(self.recipe.steps, len(devices), flops.useful, flops.full, peak_flops(devices[0]))
        return Diary(log, meter, report, self.recipe.steps, shape, self.loop.most_skipped)


def fit(run: Run, params: dict[str, Any], report: Report, probe: Probe | None = None) -> State:
    """Trains to the end of the recipe, from the newest checkpoint if there is one.

    Raises PreemptedError after saving, if told to end; ValueError if too many steps in a row were left out.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    last, loop = run.recipe.steps, run.loop
    with run.checkpoints() as checkpoints, told_to_end() as asked:
        state = checkpoints.restore(run.begin(sharding.put(params, run.mesh) if run.mesh else params))
        if (first := int(state.step)) >= last:
            return state
        example = run.batch(first)
        step_once = compiled(run, state, example, report)
        closing = contextlib.closing
        with (
            run.log(first) as log,
            closing(Tracer(loop.profile, run.folder / "profile")) as tracer,
            closing(ahead(run.batch, range(first, last))) as batches,
        ):
            diary = run.diary(log, report, example["tokens_BT"].shape)
            for step, batch in enumerate(diary.timed(batches), first):
                tracer.before(step)
                state, numbers = step_once(state, batch)
                tracer.after(step, numbers)
                more: dict[str, float] = {}
                if probe and loop.probe_every and (step + 1) % loop.probe_every == 0:
                    with diary.aside(numbers):
                        more = probe(state.params())
                diary.after(step, numbers, more)
                ending = asked() or checkpoints.preempted(step)
                if ending or (step + 1) % loop.save_every == 0 or step + 1 == last:
                    diary.catch_up()
                    checkpoints.save(state)
                if ending and step + 1 < last:
                    raise PreemptedError(f"told to end: saved after step {step + 1} of {last}")
    return state


def compiled(run: Run, state: State, batch: dict[str, Any], report: Report) -> Callable[..., Any]:
    """-> train_step for these shapes. Says what memory it will take before it is compiled, and what the compiler
    says, beside each other in memory.txt.
    """
    traced = train_step.trace(run.model, run.recipe, state, batch)
    expected, limit = memory.estimate(traced, state, batch), memory.limit_bytes(jax.local_devices()[0])
    report(0.0, memory.sentence(expected, limit))
    with explained(expected, limit):
        step_once = traced.lower().compile()
    if jax.process_index() == 0:
        table = memory.table(expected, memory.compiled_bytes(step_once), limit)
        files.write(run.folder / "memory.txt", f"{table}\n".encode())

    def step(state: State, batch: dict[str, Any]) -> Any:
        with explained(expected, limit):
            return step_once(state, batch)

    return step


@contextlib.contextmanager
def explained(expected: memory.Memory, limit: int | None) -> Iterator[None]:
    """Running out of memory is a mistake in the flags: what would help?"""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ValueError(
            f"out of memory: {memory.sentence(expected, limit)}; less with --micro_rows, --remat=attention or full, "
            "more devices in --mesh_fsdp or --mesh_seq, --state_dtype=bfloat16, --ema=0, or --lora_rank"
        ) from error


@contextlib.contextmanager
def told_to_end() -> Iterator[Callable[[], bool]]:
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
