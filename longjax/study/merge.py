"""Brings arms of the same study, which several machines have run in parts, into one folder."""

import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

from longjax.files import read_object
from longjax.study.workspace import Workspace

MACHINE = ("remat", "workers", "batch_tokens")  # parts of a preset that depend on the machine and change no result
PLACES = ("text_dir", "base_dir", "adapter", "plan_dir")  # paths, which may differ; hashes of what they hold do not


def merge_runs(workspace: Workspace, folders: Sequence[str]) -> None:
    """Copies the arms that the workspace lacks out of other folders of the same study.

    Raises ValueError if a folder is no study, or one of another plan.
    """
    for folder in map(pathlib.Path, folders):
        if not (settings := sorted(folder.glob("**/settings.json"))):
            raise ValueError(f"--merge={folder} is no study: it has no settings.json")
        for path in settings:
            place = path.parent.relative_to(folder)
            check_same_study(path, workspace.folder / place / path.name)
            for arm in sorted((path.parent / "methods").glob("*/method.json")):
                copy_arm(arm.parent, workspace.folder / place / "methods" / arm.parent.name)


def check_same_study(theirs: pathlib.Path, ours: pathlib.Path) -> None:
    """Raises ValueError, naming what differs, unless the settings describe the same study."""
    if not ours.exists():
        raise ValueError(f"--merge: {theirs} is of a seed that this study does not have")
    old, new = (comparable(read_object(path, "copy the folder again")) for path in (theirs, ours))
    if differ := [name for name in new if old.get(name) != new[name]]:
        raise ValueError(f"--merge: {theirs} is of another study ({', '.join(sorted(differ))} differ)")


def comparable(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings without what may differ between machines."""
    preset = {name: x for name, x in settings.get("preset", {}).items() if name not in MACHINE}
    extend = {name: x for name, x in preset.get("extend", {}).items() if name != "micro_batch_size"}
    return {name: x for name, x in settings.items() if name not in PLACES} | {"preset": preset | {"extend": extend}}


def copy_arm(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies an arm's identity, log and evaluations, unless they are there; its checkpoints stay where they are."""
    if not (target / "evals").exists():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("checkpoints"), dirs_exist_ok=True)
