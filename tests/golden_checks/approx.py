"""Golden check of approximate attention: a folder of .npz files, one case each, against longjax.

Attention cases hold q, k, v [B, heads, T, H] before rotation and the peer's outputs; cases with `input_ids` are whole
models (approx_models.py), those of Landmark are read by landmark.py. Every array that is not an input must be
computed here; whatever is unknown, missing, unclaimed or NaN is a failing result.
"""

from collections.abc import Iterator
from pathlib import Path

from golden_checks.approx_attention import attention
from golden_checks.approx_case import Case, compare, failure
from golden_checks.common import Result


def results(folder: Path) -> Iterator[Result]:
    """Compare every case of a folder; files named *_weights belong to cases."""
    for path in sorted(Path(folder).glob("*.npz")):
        if path.stem.endswith("_weights"):
            continue
        try:
            yield from case_results(path)
        except Exception as error:  # a case that cannot be computed fails; the others are still checked
            yield failure(path, f"{type(error).__name__}: {error}")


def case_results(path: Path) -> Iterator[Result]:
    case = Case.read(path)
    method = case.meta.get("method", "")
    if method.startswith("landmark") or method == "lm_infinite + top-k middle keys":
        from golden_checks import landmark

        yield from landmark.results(path)
    elif "input_ids" in case.arrays:
        from golden_checks import approx_models

        yield from compare(case, approx_models.compute(case), approx_models.inputs(case))
    else:
        yield from compare(case, attention(case), {"q", "k", "v", "cotangent", "attention_mask"})
