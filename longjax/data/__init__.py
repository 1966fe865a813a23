"""Documents to tokens to rows. Each file says one thing; these are the names that others use."""

from longjax.data.pack import BestFit, Concat, ConcatTails, Intact, Single, Whole, pack
from longjax.data.permute import permute
from longjax.data.plan import Plan, open_plan, save_plan
from longjax.data.rows import Rows, Source, Stages, fingerprint
from longjax.data.select import Rule, Selection, select, whole
from longjax.data.store import Store, check_vocab, open_store
from longjax.data.write import write_store

__all__ = [
    "BestFit", "Concat", "ConcatTails", "Intact", "Plan", "Rows", "Rule", "Selection", "Single", "Source", "Stages",
    "Store", "Whole", "check_vocab", "fingerprint", "open_plan", "open_store", "pack", "permute", "save_plan", "select",
    "whole", "write_store",
]  # fmt: skip
