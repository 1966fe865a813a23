"""The ledger of an unfinished token store: shards that are listed survive an interruption and are not written again.

ledger.json holds the layout of the store, its finished shards, and the document at which the input continues.
"""

import dataclasses
import json
import pathlib
from typing import Any

from longjax import files
from longjax.data.corpus import SPLITS, split_of
from longjax.files import read_object

SHARD_TOKENS = 2**27  # a kill costs the work on one shard


@dataclasses.dataclass(frozen=True)
class Layout:
    """Everything but the documents that the bytes of a store depend on.

    Attributes:
      files: names of the inputs.
      tokenizer: sha256 of the tokenizer.
      vocab: one more than the largest id.
      masks: whether the store has loss masks.
      shard: maximum number of tokens per file; a longer document has a file of its own.
      held_out: share of documents in the validation and test splits together.
      settings: of the encoder and readers; writing is resumed only if they are the same.

    """

    files: tuple[str, ...]
    tokenizer: str
    vocab: int
    masks: bool = False
    shard: int = SHARD_TOKENS
    held_out: float = 0.1
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def dtype(self) -> str:
        """NumPy's name for the type of ids."""
        return "<u2" if self.vocab <= 2**16 else "<u4"

    def matches(self, manifest: dict[str, Any]) -> bool:
        """Whether a manifest belongs to a store of this layout."""
        return all(manifest.get(key) == value for key, value in self.as_json.items())

    @property
    def as_json(self) -> dict[str, Any]:
        """The fields as they come back from JSON, for comparison with a file."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def split(self, name: str) -> int:
        """Returns the index into SPLITS of the document of this name."""
        half = self.held_out / 2
        return SPLITS.index(split_of(name, (1 - self.held_out, half, half)))


class Ledger:
    """The list of a folder's finished shards, from the first to the last one whose files are complete.

    Args:
      folder: of the store.
      layout: of the store.

    Raises:
      ValueError: the folder holds a finished store, or an unfinished one of another layout.

    """

    def __init__(self, folder: pathlib.Path, layout: Layout):
        self.path, self.layout, settings = folder / "ledger.json", layout, layout.as_json
        self.shards: list[dict[str, Any]] = []
        if (folder / "manifest.json").exists():
            raise ValueError(
                f"{folder} holds a finished store of other inputs or settings: choose another folder, or delete it"
            )
        if self.path.exists():
            old = read_object(self.path, f"delete {folder} and start again")
            if differ := _different(old["layout"], settings):
                raise ValueError(f"{folder} was begun with other {', '.join(differ)}: delete it, or run as before")
            self.shards = old["shards"]
        for k, shard in enumerate(self.shards):
            if any(not _is_complete(folder / name, size) for name, size in shard["files"].items()):
                del self.shards[k:]  # later shards are written again, too
                break

    @property
    def next(self) -> tuple[int, int]:
        """File and row of the first document that is in no shard."""
        file, row = self.shards[-1]["next"] if self.shards else (0, 0)
        return file, row

    def add(self, shard: dict[str, Any]) -> None:
        """Notes a finished shard on disk."""
        self.shards.append(shard)
        content = {"layout": self.layout.as_json, "shards": self.shards}
        files.write_atomically(self.path, json.dumps(content, indent=1).encode())


def _different(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """-> names of the fields that differ; of the field `settings`, those in it."""
    flat_old, flat_new = ({**x, **x.get("settings", {}), "settings": None} for x in (old, new))
    return [key for key in flat_new if flat_old.get(key) != flat_new[key]]


def _is_complete(path: pathlib.Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size
