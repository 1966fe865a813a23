"""Training state on disk, by orbax. A save is whole or absent; frozen weights are not written again."""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from longjax.train import State


class Checkpoints:
    """The checkpoints of one training run; the newest `keep` stay."""

    def __init__(self, folder: pathlib.Path | str, keep: int = 2):
        self.folder = pathlib.Path(folder).absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        self.manager = ocp.CheckpointManager(self.folder, options=options)

    def save(self, state: State) -> None:
        """Starts to write; returns before it is done."""
        self.manager.save(int(state.step), args=ocp.args.StandardSave(moving(state)))

    def restore(self, template: State) -> State:
        """-> the newest saved state in the places of `template`, or the template if nothing was saved.

        Raises ValueError if what was saved is of another shape.
        """
        step = self.manager.latest_step()
        if step is None:
            return template
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, moving(template))
        try:
            saved = self.manager.restore(step, args=ocp.args.StandardRestore(like))
        except (ValueError, KeyError) as error:
            raise ValueError(f"{self.folder}/{step} does not fit this model and method: {error}") from error
        return template.replace(**saved)

    def close(self) -> None:
        """Waits until all is on disk."""
        self.manager.wait_until_finished()
        self.manager.close()


def moving(state: State) -> dict[str, Any]:
    """The parts of a state that training changes."""
    return {"step": state.step, "trained": state.trained, "ema": state.ema, "opt": state.opt}
