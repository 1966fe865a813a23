"""Golden check of LongBench's prompts: cases.jsonl, each line the ids that the study's code passed to the model.

Beside the folder lie tokenizer/tokenizer.model and prompts/longbench.json.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from golden_checks.common import Result
from golden_checks.exact_case import failure
from longjax.data.tokenizer import Tokenizer
from longjax.evals.context import EvalContext
from longjax.evals.longbench.table import TASKS
from longjax.evals.longbench.tasks import longbench_request, prompts_of
from longjax.evals.requests import GenerationRequest
from longjax.files import sha256_bytes

CASES = "cases.jsonl"
FAMILY = "longbench_truncation"
UNSCORED = {"answers": [""], "all_classes": None, "length": 0}  # what these questions do not depend on


def is_truncation(folder: Path) -> bool:
    return (folder / CASES).exists()


def results(folder: Path) -> Iterator[Result]:
    """Check every row of the file; one that cannot be read fails, and the others are still checked."""
    tokenizer = Tokenizer(folder.parent / "tokenizer" / "tokenizer.model")
    ctx = EvalContext(folder, tokenizer, (1,), prompts=folder.parent / "prompts")
    prompts = prompts_of(ctx, set(TASKS))
    for number, line in enumerate((folder / CASES).read_text("utf-8").split("\n"), 1):
        if not line:
            continue
        try:
            row = json.loads(line)
            kind = row["dataset"]
            request = longbench_request(
                ctx, kind, prompts[kind], row["example"] | UNSCORED, row["id"], row["max_length"]
            )
            yield from compared(f"{kind}_{row['id']}", ours(request, tokenizer), theirs(row))
        except Exception as error:
            yield failure(FAMILY, f"line {number}", f"{type(error).__name__}: {error}")


def compared(case: str, got: dict[str, Any], want: dict[str, Any]) -> Iterator[Result]:
    for name in want:
        wrong = 0.0 if got[name] == want[name] else 1.0
        yield Result(FAMILY, case, wrong, 0.0, f"{name} is {got[name]!r}, not {want[name]!r}")


def ours(request: GenerationRequest, tokenizer: Tokenizer) -> dict[str, Any]:
    ids = request.tokens_T
    return {
        "count": len(ids),
        "sha256": sha256_bytes(ids.astype("<i4").tobytes()),
        "first": ids[:8].tolist(),
        "last": ids[-8:].tolist(),
        "left_out": request.metadata["n_truncated"],
        "new": request.max_new_tokens,
        "stop": [tokenizer.eos_id, *request.stop_ids] if request.stop_ids else None,
        "shortest": len(ids) + request.min_new_tokens if request.min_new_tokens else None,
    }


def theirs(row: dict[str, Any]) -> dict[str, Any]:
    gen_kwargs = row["generate_kwargs"]
    left_out = row["n_tokens_full_prompt"] - 2 * (row["max_length"] // 2) if row["truncated"] else 0
    return {
        "count": row["expected_n_input_tokens"], "sha256": row["expected_input_ids_sha256"],
        "first": row["expected_first_ids"], "last": row["expected_last_ids"], "left_out": left_out,
        "new": gen_kwargs["max_new_tokens"], "stop": gen_kwargs.get("eos_token_id"),
        "shortest": gen_kwargs.get("min_length"),
    }  # fmt: skip
