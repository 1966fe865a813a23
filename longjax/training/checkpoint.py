"""Checkpoints of the training state, by orbax. A save is complete or absent; frozen weights are not saved.

A checkpoint has several items, so that an evaluation reads only the weights or their average: `params`,
`missing_bits` (with a bfloat16 state), `ema`, `opt` (optimizer state, step, skip-step state), and as JSON `meta`
(model, method, recipe, versions) and `data` (hash of the rows, and how many were read, by which data resume).
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
import orbax.checkpoint as ocp

from longjax.training.optimizer import Flat
from longjax.training.orbax_logs import drop_orbax_faults
from longjax.training.skip_step import SkipStepState
from longjax.training.train_step import TrainState

FORMAT = 1
LIBRARIES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")


@dataclasses.dataclass(frozen=True)
class RunMetadata:
    """The identity of a training run; only a run of the same identity resumes from its checkpoints.

    Attributes:
      identity: model, method and recipe as JSON.
      plan: SHA-256 of the rows.
      rows: rows of one step.
      older: translates the identity in a checkpoint of an older release.

    """

    identity: dict[str, Any]
    plan: str
    rows: int
    older: Callable[[dict[str, Any]], dict[str, Any]] = dict

    def meta(self) -> dict[str, Any]:
        """Returns the item `meta`: format, identity, versions of libraries, machine."""
        versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
        machine = {"devices": jax.device_count(), "hosts": jax.process_count(), "kind": jax.devices()[0].device_kind}
        return {"format": FORMAT, "what": self.identity, "versions": versions, "machine": machine}

    def data(self, step: int) -> dict[str, Any]:
        """Returns the item `data` after `step` steps."""
        return {"plan": self.plan, "rows_seen": step * self.rows}


class TrainCheckpointer:
    """The checkpoints of one training run, as a context manager that waits for saving in the background.

    Args:
      folder: of the checkpoints; each is a subfolder named by its step.
      metadata: the identity of the run.
      max_to_keep: newest checkpoints that are not deleted.
      keep_period: checkpoints of steps that this divides are never deleted; None: all may be.

    Raises:
      ValueError: the folder cannot be written.

    """

    def __init__(
        self, folder: pathlib.Path | str, metadata: RunMetadata, max_to_keep: int = 2, keep_period: int | None = None
    ):
        self.folder, self.metadata = pathlib.Path(folder).absolute(), metadata
        options = ocp.CheckpointManagerOptions(
            max_to_keep=max_to_keep,
            keep_period=keep_period,
            cleanup_tmp_directories=True,
            enable_async_checkpointing=True,
        )
        drop_orbax_faults()
        try:
            self.manager = ocp.CheckpointManager(self.folder, options=options)
        except OSError as error:
            raise ValueError(f"{self.folder} cannot be written: {error.strerror or error}") from error

    def save(self, state: TrainState) -> None:
        """Starts to save, and returns before all is on disk. Raises ValueError if the folder cannot be written."""
        step = int(state.step)
        trees = {name: ocp.args.StandardSave(tree) for name, tree in items(state).items() if tree}
        meta, data = ocp.args.JsonSave(self.metadata.meta()), ocp.args.JsonSave(self.metadata.data(step))
        try:
            self.manager.save(step, args=ocp.args.Composite(**trees, meta=meta, data=data))
        except (OSError, ValueError) as error:
            raise self.save_error(error) from error

    def restore(self, template: TrainState) -> TrainState:
        """Returns the state of the newest complete checkpoint, or the template if there is none.

        Corrupt checkpoints are moved out of the folder, with a warning.

        Args:
          template: gives shapes, layout on devices, and the frozen weights.

        Raises:
          ValueError: another run wrote the checkpoints, or none of them can be read.

        """
        steps = sorted(self.manager.all_steps(), reverse=True)
        for step in steps:
            try:
                self.compare(step)
                return self.read(template, step)
            except CorruptCheckpointError as error:
                self.quarantine(step, str(error))
        if steps:
            raise ValueError(f"{self.folder}: no checkpoint can be read; delete the folder to start again")
        return template

    def compare(self, step: int) -> None:
        """Raises ValueError, naming what differs, if another run wrote the checkpoint of this step."""
        try:
            meta, data = (
                json.loads((self.folder / str(step) / name / "metadata").read_text()) for name in ("meta", "data")
            )
            saved, plan = self.metadata.older(meta["what"]), data["plan"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptCheckpointError(f"its metadata is missing or damaged ({error})") from error
        identity = json.loads(json.dumps(self.metadata.identity))
        different = [name for name in identity if saved.get(name) != identity[name]]
        if plan != self.metadata.plan:
            different.append("plan")
        if different:
            raise ValueError(
                f"{self.folder}/{step} was trained with another {' and '.join(different)}: choose another --run_dir, "
                "or start from its weights with --init_from"
            )

    def read(self, template: TrainState, step: int) -> TrainState:
        """Returns the state of one checkpoint. Raises CorruptCheckpointError if it cannot be read."""
        like = {name: tree for name, tree in items(template).items() if tree}
        if not (self.folder / str(step) / "missing_bits").exists():  # a bfloat16 state of 0.1
            like.pop("missing_bits", None)
        try:
            saved = self.manager.restore(step, args=restore_args(like))
        except Exception as error:  # the storage library raises anything on a corrupt file
            raise CorruptCheckpointError(first_line(error)) from error
        opt = saved["opt"]
        return template.replace(
            trained=saved["params"],
            missing_bits=saved["missing_bits"] if "missing_bits" in like else no_bits(template),
            ema=saved["ema"] if "ema" in like else {},
            step=opt["step"],
            opt_state=opt["opt"],
            skip_step=SkipStepState(*(opt["guard"][name] for name in ("skipped", "streak", "loss_W", "norm_W"))),
        )

    def quarantine(self, step: int, reason: str) -> None:
        """Moves a corrupt checkpoint out of the folder, with a warning."""
        print(f"warning: checkpoint {self.folder}/{step} is corrupt, skipped: {reason}", file=sys.stderr, flush=True)
        if jax.process_index() == 0:
            (self.folder / str(step)).rename(self.folder.parent / f"torn-{self.folder.name}-{step}")
        self.manager.reload()

    def preempted(self, step: int) -> bool:
        """Returns whether the scheduler has announced preemption to a process of this job; all processes agree."""
        return jax.process_count() > 1 and self.manager.reached_preemption(step)

    def save_error(self, error: Exception) -> ValueError:
        """Returns an error of saving in one line."""
        return ValueError(f"{self.folder} cannot be written, earlier checkpoints are complete: {first_line(error)}")

    def __enter__(self) -> "TrainCheckpointer":
        return self

    def __exit__(self, *error: object) -> None:
        """Blocks until all is on disk. Raises ValueError if it cannot be written."""
        try:
            self.manager.wait_until_finished()
        except (OSError, ValueError) as failed:
            raise self.save_error(failed) from failed
        finally:
            self.manager.close()


class CorruptCheckpointError(Exception):
    """A checkpoint cannot be read, as after a kill or on a full disk."""


def items(state: TrainState) -> dict[str, Any]:
    """Returns what training changes of a state, by item. Names on disk are those of longjax 0.1."""
    skips = state.skip_step
    guard = {
        "skipped": skips.skipped,
        "streak": skips.consecutive_skips,
        "loss_W": skips.loss_W,
        "norm_W": skips.norm_W,
    }
    return {
        "params": state.trained,
        "missing_bits": state.missing_bits,
        "ema": state.ema,
        "opt": {"opt": state.opt_state, "step": state.step, "guard": guard},
    }


def no_bits(state: TrainState) -> Flat:
    """Returns the missing bits of weights that are no more precise than bfloat16."""
    return jax.tree.map(jnp.zeros_like, state.missing_bits)


def restore_args(like: dict[str, Any]) -> ocp.args.Composite:
    """Returns the request for items of the shapes, types and layout of these arrays."""
    trees = {name: jax.tree.map(shape_dtype_struct, tree) for name, tree in like.items()}
    return ocp.args.Composite(**{name: ocp.args.StandardRestore(tree) for name, tree in trees.items()})


def shape_dtype_struct(x: jax.Array) -> jax.ShapeDtypeStruct:
    """Returns shape, dtype and sharding of an array."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message."""
    return str(error).splitlines()[0] if str(error) else repr(error)
