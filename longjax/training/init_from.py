"""Starts a training from the last weights of another one."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp

from longjax.training.checkpoint import items, no_bits, restore_args
from longjax.training.train_step import TrainState


def init_from_checkpoint(folder: pathlib.Path, state: TrainState, init_opt_state: bool) -> TrainState:
    """Returns a state before its first step with the last weights of another training run.

    Args:
      folder: of the other run: RUN_DIR/methods/NAME.
      state: before its first step.
      init_opt_state: take the optimizer state from there, too; the learning-rate schedule starts anew.

    Raises:
      ValueError: that run has no checkpoint, or trained other parameters.

    """
    missing = ValueError(f"--init_from={folder} has no checkpoints: it must be RUN_DIR/methods/NAME")
    if not (folder / "checkpoints").is_dir():  # the manager would make it
        raise missing
    with ocp.CheckpointManager((folder / "checkpoints").absolute()) as manager:
        if (step := manager.latest_step()) is None:
            raise missing
        like = {"params": state.trained} | ({"opt": items(state)["opt"]} if init_opt_state else {})
        try:
            saved = manager.restore(step, args=restore_args(like))
        except (ValueError, KeyError) as error:
            raise ValueError(f"--init_from={folder}/checkpoints/{step} holds other parameters: {error}") from error
    ema = jax.tree.map(jnp.copy, saved["params"]) if state.ema else {}
    opt_state = reset_schedule(saved["opt"]["opt"], state.opt_state) if init_opt_state else state.opt_state
    return state.replace(trained=saved["params"], missing_bits=no_bits(state), ema=ema, opt_state=opt_state)


def reset_schedule(old: Any, new: Any) -> Any:
    """Returns the old optimizer state with the schedule's step count of the new one."""

    def is_schedule(x):
        return isinstance(x, optax.ScaleByScheduleState)

    return jax.tree.map(lambda a, b: b if is_schedule(a) else a, old, new, is_leaf=is_schedule)
