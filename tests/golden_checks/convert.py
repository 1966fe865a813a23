"""Golden check of checkpoints: folders of case folders, each a checkpoint with the logits that it must give.

A case is hf/ or meta/, perhaps with adapter/, and logits.npz: input_ids_T, logits_T, nll_T for each length T.
"""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from golden_checks.common import Result
from golden_checks.exact_case import Check, failure
from longjax.attention.core import TokenPositions
from longjax.checkpoints import param_mapping
from longjax.checkpoints.pretrained import Checkpoint, open_checkpoint
from longjax.checkpoints.safetensors import NAMES
from longjax.checkpoints.tensor_source import Tensors
from longjax.model.llama import Llama, logits

LOGITS = "logits.npz"
LOGITS_TOLERANCE = 1e-4  # float32 sums in another order; a correct reader has 4e-5
NLL_TOLERANCE = 2e-4  # a logit and the log of a sum of logits, each within the above


def is_convert(folder: Path) -> bool:
    return any((case / LOGITS).exists() for case in case_folders(folder))


def case_folders(folder: Path) -> list[Path]:
    """Return the folder itself, or the case folders in it; one without its logits is a case, too."""
    parts = ("hf", "meta", LOGITS)
    return [path for path in (folder, *sorted(folder.iterdir())) if any((path / part).exists() for part in parts)]


def results(folder: Path) -> Iterator[Result]:
    """Check every case of a folder; one that cannot be read fails, and the others are still checked."""
    for case in case_folders(folder):
        family = "convert"
        try:
            checkpoint = open_case(case)
            family = family_of(case)
            yield from lossless(family, case, checkpoint)
            with jax.default_matmul_precision("highest"):
                yield from (check.result(family, case.name) for check in same_logits(case, checkpoint))
        except Exception as error:
            yield failure(family, case.name, f"{type(error).__name__}: {error}")


def family_of(case: Path) -> str:
    """Return the group of a case in the table."""
    kind = "meta" if (case / "meta").exists() else "adapter" if (case / "adapter").exists() else "hf"
    return kind if kind != "hf" else read_json(case / "hf" / "config.json").get("model_type", "llama")


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def open_case(case: Path) -> Checkpoint:
    """Open the checkpoint of a case. Raises ValueError if names or shapes do not fit."""
    folder = next(path for path in (case / "meta", case / "hf") if path.exists())
    adapter = case / "adapter"
    checkpoint = open_checkpoint(folder, str(adapter) if adapter.exists() else None, dtype="float32")
    param_mapping.check_names(checkpoint.tensors.shapes(), checkpoint.cfg)
    return checkpoint


def state_of(tensors: Tensors) -> dict[str, np.ndarray]:
    return {name: tensors.read(name) for name in tensors.shapes()}


def lossless(family: str, case: Path, checkpoint: Checkpoint) -> Iterator[Result]:
    """Check that every tensor is unchanged, bit for bit, by our names and back."""
    cfg, state = checkpoint.cfg, state_of(checkpoint.tensors)
    again = param_mapping.to_hf(param_mapping.from_hf(state, cfg), cfg)
    for theirs, stored in param_mapping.stored_names(state, cfg).items():
        if not (cfg.tied and theirs == "lm_head.weight") and not same(again.pop(theirs), state[stored]):
            yield failure(family, case.name, f"{stored} does not come back as it was")
    yield Result(family, case.name, float(len(again)), 0.0, "tensors that were not there")
    if (case / "tensors.json").exists():
        yield from (failure(family, case.name, fault) for fault in differences(read_json(case / "tensors.json"), state))


def same(x: np.ndarray, y: np.ndarray) -> bool:
    return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()


def differences(expected: dict[str, Any], state: dict[str, np.ndarray]) -> Iterator[str]:
    """Yield where the tensors differ from `tensors.json`."""
    yield from (f"{name} was not read" for name in expected.keys() - state.keys())
    yield from (f"{name} is not in tensors.json" for name in state.keys() - expected.keys())
    for name in expected.keys() & state.keys():
        want, got = (
            [expected[name]["dtype"], expected[name]["shape"]],
            [NAMES[state[name].dtype], list(state[name].shape)],
        )
        if want != got:
            yield f"{name} is {got}, not {want}"


@functools.partial(jax.jit, static_argnames="model")
def forward(model: Llama, params: Any, ids_BT: jax.Array) -> jax.Array:
    B, T = ids_BT.shape
    return logits(params, model.apply({"params": params}, ids_BT, TokenPositions.whole(B, T), T)[0])


def same_logits(case: Path, checkpoint: Checkpoint) -> Iterator[Check]:
    cfg, model = checkpoint.cfg, Llama(checkpoint.cfg, checkpoint.method)
    params = param_mapping.from_hf(state_of(checkpoint.tensors), cfg)
    params = {name: x.astype(np.float32) for name, x in params.items()}
    with np.load(case / LOGITS, allow_pickle=False) as file:
        arrays = dict(file)
    lengths = sorted(int(name.rpartition("_")[2]) for name in arrays if name.startswith("input_ids_"))
    if not lengths or {f"{kind}_{T}" for T in lengths for kind in ("input_ids", "logits", "nll")} != arrays.keys():
        raise ValueError(f"{LOGITS} holds {sorted(arrays)}, not input_ids_T, logits_T and nll_T")
    if (case / "meta.json").exists() and sorted(read_json(case / "meta.json").get("lens", lengths)) != lengths:
        raise ValueError(f"{LOGITS} has lengths {lengths}, not those of meta.json")
    for T in lengths:
        ids_BT = arrays[f"input_ids_{T}"]
        got_BTV = np.asarray(forward(model, params, ids_BT), np.float64)
        yield Check(f"logits_{T}", got_BTV, arrays[f"logits_{T}"], LOGITS_TOLERANCE)
        yield Check(f"nll_{T}", nll(got_BTV, ids_BT), arrays[f"nll_{T}"], NLL_TOLERANCE)


def nll(logits_BTV: np.ndarray, ids_BT: np.ndarray) -> np.ndarray:
    """Return the negative log-likelihood of each token but the first."""
    x = logits_BTV[:, :-1]
    total = np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1)) + x.max(-1)
    return total - np.take_along_axis(x, ids_BT[:, 1:, None], -1)[..., 0]
