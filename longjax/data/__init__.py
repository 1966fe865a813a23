"""Documents to tokens to training rows: tokenizers, token stores, selections, plans, mixtures. Imports no JAX.

May import the root modules of longjax only. Others use the names below, and the modules of single subjects: `corpus`,
`tokenizer`, `readers`, `sft`, `recall_rows`.
"""

from longjax.data.mixture import AnyPlan, Curriculum, Mixed
from longjax.data.packing import BestFit, Concat, ConcatTails, Intact, Single, Whole, pack
from longjax.data.permutation import permute
from longjax.data.plan import Plan
from longjax.data.plan_files import open_plan, save_curriculum, save_mixed, save_plan
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
