"""Exports records for LongBench's own scorer, which reads pred/<model>/<task>.jsonl."""

import json
import pathlib
from collections.abc import Sequence

from longjax import files
from longjax.evals.requests import Record


def export_longbench(records: Sequence[Record], path: pathlib.Path) -> None:
    """Write the predictions of one task, atomically."""
    lines = [
        {"pred": record["prediction"]} | {name: record[name] for name in ("answers", "all_classes", "length")}
        for record in records
    ]
    files.write_atomically(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
