"""Flags by their names in longjax 0.1, which work for one more release: this file goes with the release after 0.2."""

import re
import sys
from collections.abc import Sequence

from absl import flags

RENAMED = {
    # the recipe
    "rows": "batch_size", "micro_rows": "micro_batch_size", "decay_to": "min_lr_ratio", "clip": "max_grad_norm",
    "ema": "ema_decay", "one_norm": "joint_clip", "from_zero": "warmup_from_zero",
    # the training loop
    "most_skipped": "max_skipped_steps", "probe_every": "eval_every", "keep": "max_to_keep",
    "keep_every": "keep_period", "moments": "init_opt_state",
    # an experiment, an evaluation, a method
    "base_rows": "base_batch_size", "growth": "rope_length", "piece": "row_length", "methods": "arms",
}  # fmt: skip


COMMANDS = {"tokenise": "tokenize"}  # of longjax-prepare-data


def command(name: str) -> str:
    """Returns today's name of a command, and prints a line to stderr if it was renamed."""
    if name in COMMANDS:
        print(f"{name} is now {COMMANDS[name]}; the old name goes with the next release", file=sys.stderr)
    return COMMANDS.get(name, name)


def replace(argv: Sequence[str], values: flags.FlagValues) -> list[str]:
    """Returns the command line with today's names of flags, and prints one line to stderr for each that was renamed.

    A name of 0.1 that is still a flag of this program keeps its meaning.
    """
    return [argv[0], *(_replace(argument, values) for argument in argv[1:])]


def _replace(argument: str, values: flags.FlagValues) -> str:
    match = re.fullmatch(r"--?(no)?(\w+?)(=.*)?", argument, re.DOTALL)
    if not match:
        return argument
    no, old, value = match[1] or "", match[2], match[3] or ""
    new = RENAMED.get(old)
    if old in values or new is None or new not in values:
        return argument
    print(f"--{no}{old} is now --{no}{new}; the old name goes with the next release", file=sys.stderr)
    return f"--{no}{new}{value}"
