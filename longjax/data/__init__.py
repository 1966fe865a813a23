"""Documents to tokens to rows. Each file says one thing; these are the names that others use."""

from longjax.data.mixture import AnyPlan, Curriculum, Mixed, open_plan, save_curriculum, save_mixed
from longjax.data.packing import BestFit, Concat, ConcatTails, Intact, Single, Whole, pack
from longjax.data.permutation import permute
from longjax.data.plan import Plan, save_plan
from longjax.data.rows import Rows, Source, Stages, fingerprint
from longjax.data.selection import Rule, Selection, select, whole
from longjax.data.store import Store, check_vocab, open_store
from longjax.data.tokenization import tokenise, write_store

__all__ = [
    "AnyPlan", "BestFit", "Concat", "ConcatTails", "Curriculum", "Intact", "Mixed", "Plan", "Rows", "Rule", "Selection",
    "Single", "Source", "Stages", "Store", "Whole", "check_vocab", "fingerprint", "open_plan", "open_store", "pack",
    "permute", "save_curriculum", "save_mixed", "save_plan", "select", "tokenise", "whole", "write_store",
]  # fmt: skip
