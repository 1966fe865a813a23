"""Files of records: appended batch by batch, read back, and cut behind the last record that is kept after a crash."""

import json
import os
import pathlib
from collections.abc import Callable, Collection, Sequence

from longjax import files
from longjax.evals.requests import Record
from longjax.files import fingerprint_json

RUN, MANIFEST, RECORDS, COST, SCORE = "run.json", "manifest.json", "records.jsonl", "cost.jsonl", "score.json"


class RecordFile:
    """The file of a task's records.

    Opening it cuts off a torn last line, and the records of an unfinished batch, whose requests are made again.

    Attributes:
      path: of the file.
      records: that it holds.
      writes: whether this host writes; of several hosts with the same responses, one does.

    """

    def __init__(self, path: pathlib.Path, n: int, remaining: Collection[int], writes: bool = True):
        """Open the file of a task with `n` requests, of which those with the `remaining` indices are to be made."""
        self.path, self.writes = path, writes
        records, ends = read_records(path)
        kept = len(records)
        while kept and records[kept - 1]["index"] in remaining:
            kept -= 1
        self.records, size = records[:kept], ends[kept - 1] if kept else 0
        if sorted(record["index"] for record in self.records) != sorted({*range(n)}.difference(remaining)):
            raise ValueError(f"{path}: its records are not those of {n} requests, each once; delete {path.parent}")
        if writes and path.exists() and path.stat().st_size > size:
            os.truncate(path, size)

    @property
    def next_batch(self) -> int:
        """The number of the batch that comes next; batches of another plan that the file holds are counted on."""
        return max((record["batch"] for record in self.records), default=-1) + 1

    def append(self, records: Sequence[Record]) -> None:
        """Append the records of one batch."""
        if self.writes:
            append_records(self.path, records)
        self.records += records


def append_records(path: pathlib.Path, records: Sequence[Record]) -> None:
    """Append one JSON line for each record; they are on disk when this returns.

    Raises:
      ValueError: the file cannot be written, for example because the disk is full.

    """
    lines = "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}; what it holds is kept") from error


def read_records(path: pathlib.Path) -> tuple[list[Record], list[int]]:
    """Read the whole lines of a file of records.

    Args:
      path: of the file; a missing one holds no records.

    Returns:
      The records, and the position in bytes at which the line of each ends.

    Raises:
      ValueError: a line that ends is not JSON.

    """
    records, ends, end = [], [], 0
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    for number, line in enumerate(lines[:-1], 1):  # what follows the last line's end is torn
        end += len(line) + 1
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not a record; delete it and all after it") from error
        ends.append(end)
    return records, ends


def write_or_check(
    path: pathlib.Path, content: Record, writes: bool = True, older: Callable[[Record], Record] = dict
) -> None:
    """Write the identity of a folder's content, or compare it, so that results of two runs never mix.

    Args:
      path: of the JSON file.
      content: what makes the folder's content what it is.
      writes: whether this host writes a missing file.
      older: brings what an older release wrote under today's names.

    Raises:
      ValueError: the file has other content.

    """
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if not path.exists():
        if writes:
            files.write_atomically(path, text.encode())
        return
    old, new = older(files.read_object(path, "choose another folder, or delete this one")), json.loads(text)
    if old != new:
        differ = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        marks = " and ".join(fingerprint_json(x)[:12] for x in (old, new))
        raise ValueError(
            f"{path.parent} holds another run: {path.name} differs in {', '.join(differ)} (fingerprints {marks}); "
            "choose another folder, or delete this one"
        )
