"""Documents to tokens to rows. Each file says one thing; these are the names that others use."""

from longjax.data.permute import permute
from longjax.data.plan import Plan
from longjax.data.rows import Rows, Source, Stages, fingerprint
from longjax.data.store import Store, open_store, write_store

__all__ = ["Plan", "Rows", "Source", "Stages", "Store", "fingerprint", "open_store", "permute", "write_store"]
