"""Documents to tokens to rows. Each file says one thing; these are the names that others use."""

from longjax.data.mixture import AnyPlan, Curriculum, Mixed, open_plan, save_curriculum, save_mixed
from longjax.data.packing import BestFit, Concat, ConcatTails, Intact, Single, Whole, pack
from longjax.data.permutation import permute
from longjax.data.plan import Plan, save_plan
from longjax.data.rows import DataSource, RowBatch, StagedSource
from longjax.data.selection import Rule, Selection, select, select_all
from longjax.data.store import TokenStore, check_vocab, open_store
from longjax.data.tokenization import tokenize, write_store

__all__ = [
    "AnyPlan",
    "BestFit",
    "Concat",
    "ConcatTails",
    "Curriculum",
    "DataSource",
    "Intact",
    "Mixed",
    "Plan",
    "RowBatch",
    "Rule",
    "Selection",
    "Single",
    "StagedSource",
    "TokenStore",
    "Whole",
    "check_vocab",
    "open_plan",
    "open_store",
    "pack",
    "permute",
    "save_curriculum",
    "save_mixed",
    "save_plan",
    "select",
    "select_all",
    "tokenize",
    "write_store",
]  # fmt: skip
