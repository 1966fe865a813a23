"""Files of records: appended call by call, read back, torn ends dropped."""

import itertools
import json
import os
import pathlib
from collections.abc import Callable, Sequence

from longjax import files
from longjax.evals.batching import BatchPlan
from longjax.evals.requests import Record
from longjax.files import fingerprint_json

RUN, MANIFEST, RECORDS, COST, SCORE = "run.json", "manifest.json", "records.jsonl", "cost.jsonl", "score.json"
CLOCK = ("wall_ms",)  # what two runs of the same do not share


class RecordFile:
    """The file of a task. What a crash tore, and the call it belongs to, are dropped when it is opened.

    `writes`: of several hosts that get the same answers, one.
    """

    def __init__(self, path: pathlib.Path, plan: BatchPlan, writes: bool = True):
        self.path, self.writes = path, writes
        found, ends = read_records(path)
        asked = [number for batch in plan.batches for number in batch.numbers]
        if [record["index"] for record in found] != asked[: len(found)]:
            raise ValueError(f"{path}: its records are not those of this plan; delete {path.parent}")
        totals = list(itertools.accumulate(len(batch.numbers) for batch in plan.batches))
        self.calls = sum(total <= len(found) for total in totals)  # that have all their records
        whole = totals[self.calls - 1] if self.calls else 0
        self.all, size = found[:whole], ends[whole - 1] if whole else 0
        if writes and path.exists() and path.stat().st_size > size:
            os.truncate(path, size)

    def append(self, records: Sequence[Record]) -> None:
        """Of one call."""
        if self.writes:
            append_records(self.path, records)
        self.all += records
        self.calls += 1


def append_records(path: pathlib.Path, records: Sequence[Record]) -> None:
    """One line each; on the disk when this returns. Raises ValueError if the disk is full."""
    lines = "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}; what it holds is kept") from error


def read_records(path: pathlib.Path) -> tuple[list[Record], list[int]]:
    """-> records of all whole lines, and where each line ends in the file."""
    records, ends, place = [], [], 0
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    for number, line in enumerate(lines[:-1], 1):  # what follows the last line's end is torn
        place += len(line) + 1
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not a record; delete it and all after it") from error
        ends.append(place)
    return records, ends


def write_or_check(
    path: pathlib.Path, content: Record, writes: bool = True, older: Callable[[Record], Record] = dict
) -> None:
    """Writes what a folder is of, or compares: numbers of two models or two sets of questions never mix.

    `older` puts what an older release has written into today's words.
    """
    said = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if not path.exists():
        if writes:
            files.write_atomically(path, said.encode())
        return
    old, new = older(json.loads(path.read_text("utf-8"))), json.loads(said)
    if old != new:
        differ = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        marks = " and ".join(fingerprint_json(x)[:12] for x in (old, new))
        raise ValueError(
            f"{path.parent} holds another run: {path.name} differs in {', '.join(differ)} (fingerprints {marks}); "
            "choose another folder, or delete this one"
        )
