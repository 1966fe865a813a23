"""Records as LongBench's own scorer reads them: pred/<model>/<task>.jsonl."""

import json
import pathlib
from collections.abc import Sequence

from longjax import files
from longjax.evals.requests import Record


def export_longbench(records: Sequence[Record], path: pathlib.Path) -> None:
    """Writes the predictions of one task; the file is there whole or not at all."""
    lines = [
        {"pred": record["prediction"]} | {name: record[name] for name in ("answers", "all_classes", "length")}
        for record in records
    ]
    files.write_atomically(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
