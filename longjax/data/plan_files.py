"""Plans on disk: a folder with plan.json, and plan.npz unless it refers to other plans."""

import io
import json
import os
import pathlib
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from longjax import files
from longjax.data.mixture import AnyPlan, Curriculum, Mixed
from longjax.data.plan import Plan, Spans
from longjax.data.store import open_store
from longjax.data.tokenizer import Tokenizer
from longjax.files import read_object

REMEDY = "name a folder that `tools.prepare_data pack` wrote, or pack again"
KEYS = {  # of plan.json by kind, and the types of their values
    "plan": {"store": str, "store_sha256": str, "sha256": str, "length": int, "doc_mask": bool},
    "mixed": {"plans": list, "shares": list, "block": int},
    "curriculum": {"plans": list, "rows": list},
}
NUMBERS = {"plan": (), "mixed": ("shares",), "curriculum": ("rows",)}  # keys of lists of numbers
PARTS = {"mixed": ("plan",), "curriculum": ("plan", "mixed")}  # the kinds that they are made of


def save_plan(plan: Plan, path: str | os.PathLike) -> None:
    """Writes plan.npz and plan.json into a folder; they refer to the store by its relative path and its hash."""
    folder, file = pathlib.Path(path), io.BytesIO()
    np.savez(file, **plan.spans._asdict())
    description = plan.metadata | {
        "kind": "plan", "length": plan.length, "rows": len(plan), "doc_mask": plan.doc_mask,
        "store": os.path.relpath(plan.store.folder.resolve(), folder.resolve()), "store_sha256": plan.store.sha256,
        "sha256": plan.rows_sha256,
    }  # fmt: skip
    with files.atomic_files(folder) as create:
        create("plan.npz").write(file.getvalue())
        create("plan.json").write((json.dumps(description, indent=1) + "\n").encode())


def load_plan(path: str | os.PathLike, seed: int = 0, tokenizer: Tokenizer | None = None) -> Plan:
    """Reads a plan and compares it with its hash and that of its store.

    Args:
      path: the folder that `save_plan` wrote.
      seed: key of the order of its rows.
      tokenizer: the tokenizer that its store must have been written with; None: any.

    Raises:
      ValueError: plan or store is missing or damaged, or they do not belong together.

    """
    folder = pathlib.Path(path)
    description = read_description(folder, ("plan",))
    store = open_store(folder / description["store"], tokenizer)
    if store.sha256 != description["store_sha256"]:
        raise ValueError(f"{folder / 'plan.json'} was made for another store than {store.folder}: pack it again")
    try:
        with np.load(folder / "plan.npz") as arrays:
            spans = Spans(*(arrays[name] for name in Spans._fields))
    except Exception as error:  # numpy and zipfile raise many kinds of errors for a torn file
        raise ValueError(f"{folder / 'plan.npz'} is missing or damaged: pack it again") from error
    plan = Plan(store, description["length"], spans, description["doc_mask"], seed, description)
    if plan.rows_sha256 != description["sha256"]:
        raise ValueError(f"{folder / 'plan.npz'} does not match plan.json: pack it again")
    return plan


def save_mixed(path: str | os.PathLike, folders: Sequence[str], shares: Sequence[float], block: int = 100) -> Mixed:
    """Writes a plan.json that mixes other plans.

    Args:
      path: the folder to write.
      folders: of the plans, which are opened first.
      shares: of rows, in any unit.
      block: number of rows in which the shares are met.

    Raises:
      ValueError: a folder holds no plan, or a mixture or curriculum, or the shares do not fit.

    """
    mixed = Mixed(tuple(_open_single(folder) for folder in folders), tuple(shares), block)
    _save(path, folders, mixed, {"kind": "mixed", "shares": list(shares), "block": block})
    return mixed


def save_curriculum(path: str | os.PathLike, folders: Sequence[str], rows: Sequence[int]) -> Curriculum:
    """Writes a plan.json of plans that follow each other.

    Args:
      path: the folder to write.
      folders: of the plans, which are opened first.
      rows: number of rows of each.

    Raises:
      ValueError: a folder holds no plan, or a curriculum.

    """
    curriculum = Curriculum(tuple(_not_staged(open_plan(folder), folder) for folder in folders), tuple(rows))
    _save(path, folders, curriculum, {"kind": "curriculum", "rows": list(rows)})
    return curriculum


def _save(
    path: str | os.PathLike, folders: Sequence[str], source: Mixed | Curriculum, settings: dict[str, Any]
) -> None:
    folder = pathlib.Path(path)
    plans = [
        {"folder": os.path.relpath(pathlib.Path(at).resolve(), folder.resolve()), "content": plan.rows_sha256}
        for at, plan in zip(folders, source.plans, strict=True)
    ]
    description = settings | {"length": source.length, "plans": plans}
    files.write_atomically(folder / "plan.json", (json.dumps(description, indent=1) + "\n").encode())


def _open_single(folder: str) -> Plan:
    if not isinstance(plan := open_plan(folder), Plan):
        raise ValueError(f"--plan={folder} is itself made of plans: name those")
    return plan


def _not_staged(plan: AnyPlan, folder: str | os.PathLike) -> Plan | Mixed:
    if isinstance(plan, Curriculum):
        raise ValueError(f"--plan={folder} is itself a curriculum: name its plans")
    return plan


def open_plan(path: str | os.PathLike, seed: int = 0, tokenizer: Tokenizer | None = None) -> AnyPlan:
    """Opens a plan, a mixture or a curriculum.

    Args:
      path: a folder that `tools.prepare_data` wrote.
      seed: key of the order of rows.
      tokenizer: the tokenizer that its stores must have been written with; None: any.

    Raises:
      ValueError: the plan, one of its parts or a store is missing, damaged or replaced since.

    """
    return _open(pathlib.Path(path), seed, tokenizer, tuple(KEYS))


def _open(folder: pathlib.Path, seed: int, tokenizer: Tokenizer | None, kinds: Collection[str]) -> Any:
    """-> a plan of one of these kinds."""
    description = read_description(folder, kinds)
    kind = description["kind"]
    if kind == "plan":
        return load_plan(folder, seed, tokenizer)
    plans = [_open(folder / part["folder"], seed, tokenizer, PARTS[kind]) for part in description["plans"]]
    for part, plan in zip(description["plans"], plans, strict=True):
        if plan.rows_sha256 != part["content"]:
            raise ValueError(f"{folder / 'plan.json'}: {part['folder']} was packed anew since: make this again")
    if kind == "curriculum":
        return Curriculum(tuple(plans), tuple(description["rows"]))
    return Mixed(tuple(plans), tuple(description["shares"]), description["block"], seed)


def read_description(folder: pathlib.Path, kinds: Collection[str]) -> dict[str, Any]:
    """Reads plan.json. Raises ValueError if it is damaged, or of none of these kinds, so that none holds itself."""
    path = folder / "plan.json"
    description = read_object(path, REMEDY)
    kind = description.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(f"{path} is damaged: kind={kind!r} must be one of {', '.join(kinds)}; {REMEDY}")
    files.check_values(path, description, KEYS[kind], REMEDY)
    for part in description.get("plans", []):
        files.check_values(path, part if isinstance(part, dict) else {}, {"folder": str, "content": str}, REMEDY)
    for key in NUMBERS[kind]:
        if not all(isinstance(x, int | float) for x in description[key]):
            raise ValueError(f"{path} is damaged: {key} must be numbers; {REMEDY}")
    return description
