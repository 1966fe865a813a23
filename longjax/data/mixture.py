"""Rows of several plans: mixed by shares, or one plan after the other. Both are index arithmetic.

Letters: B rows, N plans, I any number of rows.
"""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from longjax import files
from longjax.data.permutation import permute
from longjax.data.plan import Plan, gather_rows, load_plan
from longjax.data.rows import OffsetSource, RowBatch, StagedSource, check_lengths
from longjax.data.store import TokenStore, read_json
from longjax.data.tokenizer import Tokenizer
from longjax.files import fingerprint_json


@dataclasses.dataclass(frozen=True)
class Mixed:
    """Rows of several plans: in every block of `block` rows each has its share, to the row, in a keyed order.

    Attributes:
      plans: where rows come from, each in its own order.
      shares: of rows, in any unit.
      block: rows in which the shares are met.
      seed: of the order within blocks.

    """

    plans: tuple[Plan, ...]
    shares: tuple[float, ...]
    block: int = 100
    seed: int = 0

    def __post_init__(self):
        check_lengths(self.plans)
        if min(self.shares) <= 0:
            raise ValueError(f"--plan: shares {self.shares} must be positive")
        if not self.quotas.all():
            least = self.shares[int(np.argmin(self.quotas))] / sum(self.shares)
            raise ValueError(f"--block={self.block} is too small for a share of {least:.4g}")

    @property
    def length(self) -> int:
        return self.plans[0].length

    @property
    def store(self) -> TokenStore:
        """-> the tokens of the first plan."""
        return self.plans[0].store

    @property
    def content(self) -> str:
        """-> sha256 of the rows, in whatever order."""
        return fingerprint_json([[plan.content for plan in self.plans], self.quotas.tolist()])

    @property
    def sha256(self) -> str:
        return fingerprint_json([self.content, [plan.sha256 for plan in self.plans], self.seed])

    @property
    def quotas(self) -> np.ndarray:
        """-> rows of each plan in a block: the shares, rounded so that they add up."""
        exact_N = np.array(self.shares) / sum(self.shares) * self.block
        quota_N = np.floor(exact_N + 1e-9).astype(np.int64)
        most_first = np.argsort(quota_N - exact_N, kind="stable")
        quota_N[most_first[: self.block - quota_N.sum()]] += 1
        return quota_N

    def where(self, i_I: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """-> plan_I, row_I: which plan gives row i of the training, and which row of its order that is."""
        block_I, place_I = np.divmod(i_I, self.block)
        slot_I = np.zeros_like(i_I)
        for block in np.unique(block_I):
            now = block_I == block
            slot_I[now] = permute(place_I[now], self.block, (self.seed, 3, int(block)))
        end_N = np.cumsum(self.quotas)
        plan_I = np.searchsorted(end_N, slot_I, side="right")
        row_I = block_I * self.quotas[plan_I] + slot_I - (end_N - self.quotas)[plan_I]
        return plan_I, row_I

    @property
    def doc_mask(self) -> bool:
        """Whether some rows keep documents apart; then all say where theirs begin, for one kind of batch."""
        return any(plan.doc_mask for plan in self.plans)

    def __call__(self, first: int, count: int) -> RowBatch:
        plan_B, row_B = self.where(np.arange(first, first + count))
        for n, plan in enumerate(self.plans):
            row_B[plan_B == n] = plan.order(row_B[plan_B == n])
        return gather_rows([self.plans[n] for n in plan_B], row_B, self.doc_mask)

    def documents(self, first: int, count: int) -> list[str]:
        """-> the names of the documents in these rows of the training order."""
        plan_B, row_B = self.where(np.arange(first, first + count))
        names = [self.plans[n].documents(int(row), 1) for n, row in zip(plan_B, row_B, strict=True)]
        return list(dict.fromkeys(name for part in names for name in part))


@dataclasses.dataclass(frozen=True)
class Curriculum:
    """So many rows of each plan, one plan after the other, each from its first row on; the last goes on for ever."""

    plans: tuple[Plan | Mixed, ...]
    rows: tuple[int, ...]

    def __post_init__(self):
        if min(self.rows) < 1:
            raise ValueError(f"--plan: rows {self.rows} of the stages must be positive")

    @functools.cached_property
    def stages(self) -> StagedSource:
        ends = np.cumsum(self.rows).tolist()
        parts = zip(self.plans, ends, self.rows, strict=True)
        return StagedSource(tuple((end, OffsetSource(plan, end - count)) for plan, end, count in parts))

    @property
    def length(self) -> int:
        return self.stages.length

    @property
    def store(self) -> TokenStore:
        """-> the tokens of the first plan."""
        return self.plans[0].store

    @property
    def content(self) -> str:
        """-> sha256 of the rows, in whatever order."""
        return fingerprint_json([[plan.content for plan in self.plans], self.rows])

    @property
    def sha256(self) -> str:
        return self.stages.sha256

    @property
    def doc_mask(self) -> bool:
        """As of Mixed: a training step is compiled for one kind of batch."""
        return any(plan.doc_mask for plan in self.plans)

    def __call__(self, first: int, count: int) -> RowBatch:
        rows = self.stages(first, count)
        if self.doc_mask and rows.start_BT is None:
            rows = rows._replace(start_BT=np.zeros(rows.weights_BT.shape, np.int32))
        return rows

    def documents(self, first: int, count: int) -> list[str]:
        """-> the names of the documents in these rows of the training order."""
        ends = np.cumsum(self.rows)
        stage = [min(int(np.searchsorted(ends, i, side="right")), len(ends) - 1) for i in range(first, first + count)]
        begins = ends - self.rows
        parts = [self.plans[k].documents(i - int(begins[k]), 1) for i, k in enumerate(stage, first)]
        return list(dict.fromkeys(name for part in parts for name in part))


AnyPlan = Plan | Mixed | Curriculum


def save_mixed(path: str | os.PathLike, folders: Sequence[str], shares: Sequence[float], block: int = 100) -> Mixed:
    """Notes in the folder `path` which plans are mixed, after opening them."""
    mixed = Mixed(tuple(_plan(folder) for folder in folders), tuple(shares), block)
    _save(path, folders, mixed, {"kind": "mixed", "shares": list(shares), "block": block})
    return mixed


def save_curriculum(path: str | os.PathLike, folders: Sequence[str], rows: Sequence[int]) -> Curriculum:
    """Notes in the folder `path` which plans follow each other, after opening them."""
    made = Curriculum(tuple(_stage(open_plan(folder), folder) for folder in folders), tuple(rows))
    _save(path, folders, made, {"kind": "curriculum", "rows": list(rows)})
    return made


def _save(path: str | os.PathLike, folders: Sequence[str], made: Mixed | Curriculum, about: dict[str, Any]) -> None:
    folder = pathlib.Path(path)
    parts = [
        {"folder": os.path.relpath(pathlib.Path(at).resolve(), folder.resolve()), "content": plan.content}
        for at, plan in zip(folders, made.plans, strict=True)
    ]
    about = about | {"length": made.length, "plans": parts}
    files.write_atomically(folder / "plan.json", (json.dumps(about, indent=1) + "\n").encode())


def _plan(folder: str) -> Plan:
    if not isinstance(plan := open_plan(folder), Plan):
        raise ValueError(f"--plan={folder} is itself made of plans: name those")
    return plan


def _stage(plan: AnyPlan, folder: str | os.PathLike) -> Plan | Mixed:
    if isinstance(plan, Curriculum):
        raise ValueError(f"--plan={folder} is itself a curriculum: name its plans")
    return plan


def open_plan(path: str | os.PathLike, seed: int = 0, tokenizer: Tokenizer | None = None) -> AnyPlan:
    """-> the rows that a folder plans.

    Args:
      path: the folder, made by `tools.prepare_data`.
      seed: of the order of rows.
      tokenizer: that their store must have been written with; None: any.

    """
    folder = pathlib.Path(path)
    about = read_json(folder / "plan.json", "name a folder that `tools.prepare_data pack` made, or pack again")
    if about["kind"] == "plan":
        return load_plan(folder, seed, tokenizer)
    plans = [_stage(open_plan(folder / part["folder"], seed, tokenizer), path) for part in about["plans"]]
    for part, plan in zip(about["plans"], plans, strict=True):
        if plan.content != part["content"]:
            raise ValueError(f"{folder / 'plan.json'}: {part['folder']} was packed anew since: make this again")
    if about["kind"] == "mixed":
        return Mixed(tuple(p for p in plans if isinstance(p, Plan)), tuple(about["shares"]), about["block"], seed)
    return Curriculum(tuple(plans), tuple(about["rows"]))
