"""Golden check of exact methods: a folder of .json case lists with .npz arrays beside them, against longjax.

What a case is, its arrays tell; every field and array that the check does not use is a failure.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from golden_checks import exact_clex, exact_models, exact_tables
from golden_checks.common import Result
from golden_checks.exact_case import Case, Check, cases, failure

# (an array that only this kind of case has, how to check it); the first that fits is taken
CHECKS: tuple[tuple[str, Callable[[Case], Iterator[Check]]], ...] = (
    ("bias_last_row", exact_tables.slopes),
    ("bucket", exact_tables.buckets),
    ("wq_meta", exact_tables.layout),
    ("lr_used_at_update", exact_tables.learning_rates),
    ("distinct_rows", exact_tables.deepspeed),
    ("inv_freq_after_call", exact_tables.stateful),
    ("inv_freq_buffer", exact_tables.table),
    ("freq_at_time_grid", exact_clex.equation),
    ("eff_inv_freq", exact_clex.inference),
    ("cos_row", exact_clex.one_instance),
    ("token_index", exact_clex.training_table),
    ("w_cos", exact_clex.gradient),
    ("logits_incremental", exact_models.decode),
    ("logits_same_module_0", exact_models.several),
    ("grad_q_proj_layer0", exact_models.training),
    ("logits", exact_models.whole),
)
DOCUMENTS = (".md", "SHA256SUMS")
WEIGHTS = "_weights.npz"
MODELS = "tiny_configs.json"  # of the models that the weights belong to


def is_exact(folder: Path) -> bool:
    """Whether some .json in it lists cases."""
    return any('"cases"' in path.read_text() for path in folder.glob("*.json"))


def results(folder: Path) -> Iterator[Result]:
    """Check every case of a folder; a file of an unknown format is a failure."""
    for path in sorted(folder.iterdir()):
        if path.suffix == ".json":
            yield from _list_results(path)
        elif not _is_claimed(path):
            yield failure(path.stem, path.name, "unknown file")


def _is_claimed(path: Path) -> bool:
    if path.name.endswith(WEIGHTS):
        return (path.parent / MODELS).exists()
    return path.name.endswith(DOCUMENTS) or (path.suffix == ".npz" and path.with_suffix(".json").exists())


def _list_results(path: Path) -> Iterator[Result]:
    listing = json.loads(path.read_text())
    try:
        if "rows" in listing:
            yield from (check.result(path.stem, name) for name, check in exact_tables.configurations(path))
        elif "cases" in listing:
            for case in cases(path):
                yield from _case_results(case)
        elif path.name != MODELS:
            yield failure(path.stem, path.name, "neither cases nor rows")
    except Exception as error:
        yield failure(path.stem, path.name, f"{type(error).__name__}: {error}")


def _case_results(case: Case) -> Iterator[Result]:
    """A case that cannot be computed fails; the others are still checked."""
    name = case.fields["case_id"]
    try:
        damages = list(case.damaged())
        yield from (failure(case.stem, name, damage) for damage in damages)
        check = next((check for array, check in CHECKS if array in case.arrays), None)
        if check is None:
            yield failure(case.stem, name, f"unknown kind of case: arrays {sorted(case.arrays)}")
        elif not damages:
            with jax.default_matmul_precision("highest"):
                yield from (each.result(case.stem, name) for each in check(case))
            yield from (failure(case.stem, name, f"{left} was not looked at") for left in case.unread())
    except Exception as error:
        yield failure(case.stem, name, f"{type(error).__name__}: {error}")
