"""Rows of several plans, mixed by shares or one plan after the other, by arithmetic on row numbers.

Letters: B rows, N plans, I any number of rows.
"""

import dataclasses
import functools

import numpy as np

from longjax.data.permutation import permute
from longjax.data.plan import Plan, gather_rows
from longjax.data.rows import OffsetSource, RowBatch, StagedSource, check_lengths
from longjax.data.store import TokenStore
from longjax.files import fingerprint_json


@dataclasses.dataclass(frozen=True)
class Mixed:
    """A data source that mixes plans: every block of `block` rows has each plan's share, to the row, in a keyed order.

    Attributes:
      plans: the plans, each of which keeps its own order.
      shares: of rows, in any unit.
      block: number of rows in which the shares are met.
      seed: key of the order within blocks.

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
            smallest = self.shares[int(np.argmin(self.quotas))] / sum(self.shares)
            raise ValueError(f"--block={self.block} is too small for a share of {smallest:.4g}")

    @property
    def length(self) -> int:
        """Tokens per row, T."""
        return self.plans[0].length

    @property
    def store(self) -> TokenStore:
        """The token store of the first plan."""
        return self.plans[0].store

    @property
    def rows_sha256(self) -> str:
        """Hash of the rows, whatever their order."""
        return fingerprint_json([[plan.rows_sha256 for plan in self.plans], self.quotas.tolist()])

    @property
    def sha256(self) -> str:
        """Hash of the rows and their order."""
        return fingerprint_json([self.rows_sha256, [plan.sha256 for plan in self.plans], self.seed])

    @property
    def quotas(self) -> np.ndarray:
        """Rows of each plan in a block: the shares, rounded so that they add up."""
        exact_N = np.array(self.shares) / sum(self.shares) * self.block
        quota_N = np.floor(exact_N + 1e-9).astype(np.int64)
        by_remainder = np.argsort(quota_N - exact_N, kind="stable")
        quota_N[by_remainder[: self.block - quota_N.sum()]] += 1
        return quota_N

    def locate(self, i_I: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns plan_I and row_I: the plan that gives row i of the training, and its number in that plan's order."""
        block_I, index_I = np.divmod(i_I, self.block)
        slot_I = np.zeros_like(i_I)
        for block in np.unique(block_I):
            in_block_I = block_I == block
            slot_I[in_block_I] = permute(index_I[in_block_I], self.block, (self.seed, 3, int(block)))
        end_N = np.cumsum(self.quotas)
        plan_I = np.searchsorted(end_N, slot_I, side="right")
        row_I = block_I * self.quotas[plan_I] + slot_I - (end_N - self.quotas)[plan_I]
        return plan_I, row_I

    @property
    def doc_mask(self) -> bool:
        """Whether some plan has doc_mask; then every batch has document starts, so that all have the same structure."""
        return any(plan.doc_mask for plan in self.plans)

    def __call__(self, first: int, count: int) -> RowBatch:
        """Returns rows first to first + count - 1 of the training order."""
        plan_B, row_B = self.locate(np.arange(first, first + count))
        for n, plan in enumerate(self.plans):
            row_B[plan_B == n] = plan.order(row_B[plan_B == n])
        return gather_rows([self.plans[n] for n in plan_B], row_B, self.doc_mask)

    def documents(self, first: int, count: int) -> list[str]:
        """Returns the names of the documents in rows first to first + count - 1 of the training order."""
        plan_B, row_B = self.locate(np.arange(first, first + count))
        names_by_row = [self.plans[n].documents(int(row), 1) for n, row in zip(plan_B, row_B, strict=True)]
        return list(dict.fromkeys(name for names in names_by_row for name in names))


@dataclasses.dataclass(frozen=True)
class Curriculum:
    """A data source that goes through plans one after the other, each from its first row on.

    Attributes:
      plans: the plans; the last one never ends.
      rows: number of rows of each.

    """

    plans: tuple[Plan | Mixed, ...]
    rows: tuple[int, ...]

    def __post_init__(self):
        if min(self.rows) < 1:
            raise ValueError(f"--plan: rows {self.rows} of the stages must be positive")

    @functools.cached_property
    def stages(self) -> StagedSource:
        """The plans as stages of the training."""
        ends = np.cumsum(self.rows).tolist()
        stages = zip(self.plans, ends, self.rows, strict=True)
        return StagedSource(tuple((end, OffsetSource(plan, end - count)) for plan, end, count in stages))

    @property
    def length(self) -> int:
        """Tokens per row, T."""
        return self.stages.length

    @property
    def store(self) -> TokenStore:
        """The token store of the first plan."""
        return self.plans[0].store

    @property
    def rows_sha256(self) -> str:
        """Hash of the rows, whatever their order."""
        return fingerprint_json([[plan.rows_sha256 for plan in self.plans], self.rows])

    @property
    def sha256(self) -> str:
        """Hash of the rows and their order."""
        return self.stages.sha256

    @property
    def doc_mask(self) -> bool:
        """As in `Mixed`: the training step is compiled for one structure of batches."""
        return any(plan.doc_mask for plan in self.plans)

    def __call__(self, first: int, count: int) -> RowBatch:
        """Returns rows first to first + count - 1 of the training order."""
        rows = self.stages(first, count)
        if self.doc_mask and rows.start_BT is None:
            rows = rows._replace(start_BT=np.zeros(rows.weights_BT.shape, np.int32))
        return rows

    def documents(self, first: int, count: int) -> list[str]:
        """Returns the names of the documents in rows first to first + count - 1 of the training order."""
        ends = np.cumsum(self.rows)
        stage = [min(int(np.searchsorted(ends, i, side="right")), len(ends) - 1) for i in range(first, first + count)]
        starts = ends - self.rows
        names_by_row = [self.plans[k].documents(i - int(starts[k]), 1) for i, k in enumerate(stage, first)]
        return list(dict.fromkeys(name for names in names_by_row for name in names))


AnyPlan = Plan | Mixed | Curriculum
