"""Training state on disk, by orbax. A save is whole or absent; frozen weights are not written again.

A checkpoint has one item a part, so that an evaluation reads the weights or their average alone: `params`, `ema`,
`opt` (moments, step, guard), and in JSON `meta` (what was trained, how, by which versions) and `data` (the plan, and
the rows seen so far: the one integer by which data resume).
"""

import dataclasses
import importlib.metadata
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp

from longjax.training.skip_step import SkipStepState
from longjax.training.train_step import TrainState

FORMAT = 1
LIBRARIES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")


@dataclasses.dataclass(frozen=True)
class RunMetadata:
    """What a training run is; a checkpoint goes on only in the run that wrote it.

    Attributes:
      what: model, method, recipe, in words or numbers that JSON can say.
      plan: sha256 of the rows.
      rows: of one step.
      older: puts `what` of an older release's checkpoint into today's words.

    """

    identity: dict[str, Any]
    plan: str
    rows: int
    older: Callable[[dict[str, Any]], dict[str, Any]] = dict

    def meta(self) -> dict[str, Any]:
        versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
        machine = {"devices": jax.device_count(), "hosts": jax.process_count(), "kind": jax.devices()[0].device_kind}
        return {"format": FORMAT, "what": self.identity, "versions": versions, "machine": machine}

    def data(self, step: int) -> dict[str, Any]:
        return {"plan": self.plan, "rows_seen": step * self.rows}


class TrainCheckpointer:
    """The checkpoints of one training run. The newest `keep` stay, and those of every `keep_every`-th step.

    Saving goes on in the background: `with` waits for it.
    """

    def __init__(self, folder: pathlib.Path | str, about: RunMetadata, keep: int = 2, keep_every: int | None = None):
        self.folder, self.about = pathlib.Path(folder).absolute(), about
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, keep_period=keep_every, cleanup_tmp_directories=True, enable_async_checkpointing=True
        )
        try:
            self.manager = ocp.CheckpointManager(self.folder, options=options)
        except OSError as error:
            raise ValueError(f"{self.folder} cannot be written: {error.strerror or error}") from error

    def save(self, state: TrainState) -> None:
        """Starts to write; returns before it is done."""
        step = int(state.step)
        parts = {name: ocp.args.StandardSave(tree) for name, tree in arrays(state).items() if tree}
        said = {"meta": self.about.meta(), "data": self.about.data(step)}
        try:
            self.manager.save(
                step, args=ocp.args.Composite(**parts, **{k: ocp.args.JsonSave(x) for k, x in said.items()})
            )
        except (OSError, ValueError) as error:
            raise self.unsaved(error) from error

    def restore(self, template: TrainState) -> TrainState:
        """-> the newest whole state in the places of `template`, or the template if nothing was saved.

        A newest checkpoint that is torn is moved aside, with a warning. Raises ValueError if another run wrote them,
        or if none can be read.
        """
        steps = sorted(self.manager.all_steps(), reverse=True)
        for step in steps:
            try:
                self.compare(step)
                return self.read(template, step)
            except CorruptCheckpointError as error:
                self.quarantine(step, str(error))
        if steps:
            raise ValueError(f"{self.folder}: no checkpoint can be read; delete the folder to begin again")
        return template

    def compare(self, step: int) -> None:
        """Raises ValueError, naming what differs, if the checkpoint is of another run."""
        try:
            meta, data = (
                json.loads((self.folder / str(step) / name / "metadata").read_text()) for name in ("meta", "data")
            )
            what, plan = self.about.older(meta["what"]), data["plan"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptCheckpointError(f"its description is missing or damaged ({error})") from error
        mine = json.loads(json.dumps(self.about.identity))
        differ = [name for name in mine if what.get(name) != mine[name]] + ["plan"] * (plan != self.about.plan)
        if differ:
            raise ValueError(
                f"{self.folder}/{step} was trained with another {' and '.join(differ)}: choose another --run_dir, "
                "or begin from its weights with --init_from"
            )

    def read(self, template: TrainState, step: int) -> TrainState:
        like = {name: jax.tree.map(shape_dtype_struct, tree) for name, tree in arrays(template).items() if tree}
        try:
            saved = self.manager.restore(
                step, args=ocp.args.Composite(**{name: ocp.args.StandardRestore(tree) for name, tree in like.items()})
            )
        except Exception as error:  # whatever a torn file makes of the storage library
            raise CorruptCheckpointError(str(error).splitlines()[0] if str(error) else repr(error)) from error
        opt = saved["opt"]
        return template.replace(
            trained=saved["params"],
            ema=saved["ema"] if "ema" in like else {},
            step=opt["step"],
            opt_state=opt["opt"],
            skip_step=SkipStepState(*(opt["guard"][name] for name in ("skipped", "streak", "loss_W", "norm_W"))),
        )

    def quarantine(self, step: int, why: str) -> None:
        print(f"warning: checkpoint {self.folder}/{step} is torn and left out: {why}", file=sys.stderr, flush=True)
        if jax.process_index() == 0:
            (self.folder / str(step)).rename(self.folder.parent / f"torn-{self.folder.name}-{step}")
        self.manager.reload()

    def preempted(self, step: int) -> bool:
        """-> whether the machine's scheduler has told some host of this job to end; all hosts agree."""
        return jax.process_count() > 1 and self.manager.reached_preemption(step)

    def unsaved(self, error: Exception) -> ValueError:
        said = str(error).splitlines()[0] if str(error) else repr(error)
        return ValueError(f"{self.folder} cannot be written, earlier checkpoints are whole: {said}")

    def __enter__(self) -> "TrainCheckpointer":
        return self

    def __exit__(self, *error: object) -> None:
        """Waits until all is on disk."""
        try:
            self.manager.wait_until_finished()
        except (OSError, ValueError) as failed:
            raise self.unsaved(failed) from failed
        finally:
            self.manager.close()


def init_from_checkpoint(folder: pathlib.Path, state: TrainState, moments: bool) -> TrainState:
    """-> the state with the last weights of another training, and with its moments, before its own first step.

    Raises ValueError if that training has no checkpoint, or trained other parameters.
    """
    with ocp.CheckpointManager((folder / "checkpoints").absolute()) as manager:
        if (step := manager.latest_step()) is None:
            raise ValueError(f"--init_from={folder} has no checkpoints: it must be RUN_DIR/methods/NAME")
        like = {"params": state.trained} | ({"opt": arrays(state)["opt"]} if moments else {})
        items = {name: ocp.args.StandardRestore(jax.tree.map(shape_dtype_struct, tree)) for name, tree in like.items()}
        try:
            saved = manager.restore(step, args=ocp.args.Composite(**items))
        except (ValueError, KeyError) as error:
            raise ValueError(f"--init_from={folder}/checkpoints/{step} holds other parameters: {error}") from error
    ema = jax.tree.map(jnp.copy, saved["params"]) if state.ema else {}
    opt = reset_schedule(saved["opt"]["opt"], state.opt_state) if moments else state.opt_state
    return state.replace(trained=saved["params"], ema=ema, opt=opt)


def reset_schedule(old: Any, new: Any) -> Any:
    """-> the old optimiser state, its learning rate at the beginning again."""

    def is_schedule(x):
        return isinstance(x, optax.ScaleByScheduleState)

    return jax.tree.map(lambda a, b: b if is_schedule(a) else a, old, new, is_leaf=is_schedule)


class CorruptCheckpointError(Exception):
    """A checkpoint that a kill or a full disk left unfinished."""


def arrays(state: TrainState) -> dict[str, Any]:
    """The parts of a state that training changes, under their names on disk (those of longjax 0.1)."""
    skips = state.skip_step
    guard = {
        "skipped": skips.skipped,
        "streak": skips.consecutive_skips,
        "loss_W": skips.loss_W,
        "norm_W": skips.norm_W,
    }
    return {
        "params": state.trained,
        "ema": state.ema,
        "opt": {"opt": state.opt_state, "step": state.step, "guard": guard},
    }


def shape_dtype_struct(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
