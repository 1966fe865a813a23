"""Documents as token ids, read from flat token files, JSON lines, saved `datasets`, or a token store."""

import dataclasses
import json
import pathlib

import numpy as np
from absl import logging

from longjax.data import TokenStore, readers
from longjax.evals.context import EvalContext
from longjax.files import sha256_bytes, sha256_file

HOLDS = "texts for perplexity: .bin (flat ids, each document begins with the first id) or .jsonl (text)"
SOURCE = "LongLoRA's tokenized PG19 (test.bin) and Proof-pile (test_sampled_data.bin), which the study uses, or yours"


@dataclasses.dataclass(frozen=True, eq=False)
class EvalText:
    """Documents one after the other.

    Attributes:
      name: of the file, in results.
      ids: of all documents.
      starts: position in ids at which each document begins; the first is 0.
      has_bos: whether each document begins with a token that only opens it.
      sha256: of what it was read from.
      path: of what it was read from, for messages.

    """

    name: str
    ids: np.ndarray
    starts: np.ndarray
    has_bos: bool
    sha256: str
    path: str

    def documents(self, max_documents: int | None = None, min_tokens: int = 0) -> list[tuple[int, np.ndarray]]:
        """Return (index, ids) of the first `max_documents` documents that have at least `min_tokens` tokens."""
        documents = enumerate(np.split(self.ids, self.starts[1:]))
        return [(index, ids) for index, ids in documents if len(ids) >= min_tokens][:max_documents]

    def document(self, position: int) -> int:
        """Return the index of the document that the token at `position` belongs to."""
        return int(np.searchsorted(self.starts, position, side="right")) - 1


def concat_documents(name: str, documents: list[np.ndarray], has_bos: bool, sha256: str, path: str) -> EvalText:
    """Join documents to a text; the other arguments are EvalText's."""
    sizes = [len(document) for document in documents]
    ids = np.concatenate(documents) if documents else np.zeros(0, np.int32)
    return EvalText(name, ids.astype(np.int32), np.cumsum([0, *sizes[:-1]]), has_bos, sha256, path)


def from_store(store: TokenStore, split: str = "test", bos_id: int = -1) -> EvalText:
    """Return the documents of a split as they are; `bos_id`: the id that opens a text."""
    documents = store.documents(split)
    path = f"the {split} split of {store.folder}"
    return concat_documents(split, documents, all_have_bos(documents, bos_id), store.sha256, path)


def read_texts(ctx: EvalContext, names: str) -> list[EvalText]:
    """Read texts of perplexity/ in the data directory.

    Args:
      ctx: names the directory and the tokenizer.
      names: comma-separated names, with or without suffix; empty: all texts of the directory.

    Raises:
      ValueError: a text is missing, cannot be read, or two have one name.

    """
    folder = ctx.find_file(["perplexity"], HOLDS, SOURCE)
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    paths = [ctx.find_file(candidate_paths(name), HOLDS, SOURCE) for name in chosen] or text_paths(folder)
    if not paths:
        raise ValueError(f"{folder} holds no text: {HOLDS}. Get it from {SOURCE}")
    if len({path.stem for path in paths}) < len(paths):
        raise ValueError(f"{folder} holds two texts of one name: choose with --ppl_data, or rename one")
    return [read_text(path, ctx) for path in paths]


def candidate_paths(name: str) -> list[str]:
    """Return the paths, below the data directory, at which a text of this name may be."""
    return [f"perplexity/{name}{suffix}" for suffix in ("", ".bin", ".jsonl")]


def text_paths(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the paths of all texts in a folder, sorted."""
    return sorted(
        path for path in folder.iterdir() if path.suffix in (".bin", ".jsonl") or (path / "state.json").exists()
    )


def read_text(path: pathlib.Path, ctx: EvalContext) -> EvalText:
    """Read one text of any of the formats."""
    if path.is_dir():
        return saved_dataset(path, ctx)
    return token_file(path, ctx) if path.suffix == ".bin" else json_lines(path, ctx)


def token_file(path: pathlib.Path, ctx: EvalContext) -> EvalText:
    """Read flat little-endian ids, uint16 unless <name>.json beside the file names another: {"dtype": "uint32"}."""
    dtype, size = file_dtype(path.with_suffix(".json"), ctx.tokenizer.vocab), path.stat().st_size
    if size == 0 or size % dtype.itemsize:
        raise ValueError(f"{path} has {size} bytes, no whole number of {dtype.name} ids: copy it again")
    ids = np.fromfile(path, dtype)
    check_ids(ids, path, ctx)
    if dtype.itemsize == 2 and size % 4 == 0 and not ids[1::2].any() and not path.with_suffix(".json").is_file():
        raise ValueError(f'{path} looks like 32-bit ids: write {{"dtype": "uint32"}} into {path.with_suffix(".json")}')
    if ids[0] != ctx.tokenizer.bos_id >= 0:
        logging.warning("%s begins with id %d, so every %d opens a document; the tokenizer's opening id is %d",
                        path, ids[0], ids[0], ctx.tokenizer.bos_id)  # fmt: skip
    return EvalText(
        path.stem, ids.astype(np.int32), np.flatnonzero(ids == ids[0]), True, sha256_bytes(ids.tobytes()), str(path)
    )


def file_dtype(path: pathlib.Path, vocab: int) -> np.dtype:
    """Return the type of ids that a .json file beside a token file names; uint16 without one, if that has all ids."""
    if vocab > 1 << 16 and not path.is_file():
        raise ValueError(f'{path} is missing: is the .bin file {{"dtype": "uint16"}} or {{"dtype": "uint32"}}?')
    try:
        name = json.loads(path.read_text())["dtype"] if path.is_file() else "uint16"
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path} must be like {{"dtype": "uint32"}}') from error
    if name not in ("uint16", "uint32"):
        raise ValueError(f"{path} has dtype {name!r}: it can be uint16 or uint32")
    return np.dtype(name).newbyteorder("<")


def check_ids(ids: np.ndarray, path: pathlib.Path, ctx: EvalContext) -> None:
    """Raise ValueError for ids that the tokenizer, and so the model, does not have."""
    if len(ids) and int(ids.max()) >= ctx.tokenizer.vocab:
        unknown = ", ".join(map(str, np.unique(ids[ids >= ctx.tokenizer.vocab])[:3]))
        raise ValueError(
            f"{path} has ids like {unknown}, but {ctx.tokenizer.path} has only {ctx.tokenizer.vocab}: "
            f"tokenize it again, or set uint32 in {path.with_suffix('.json')}"
        )


def json_lines(path: pathlib.Path, ctx: EvalContext) -> EvalText:
    """Read a .jsonl file with a document a line in `text`."""
    lines, _ = ctx.read_jsonl(path, ["text"], ["text"])
    documents = [ctx.ids(line["text"]) for line in lines]
    has_bos = ctx.tokenizer.bos_id >= 0
    return concat_documents(path.stem, documents, has_bos, sha256_file(path), str(path))


def saved_dataset(folder: pathlib.Path, ctx: EvalContext) -> EvalText:
    """Read a folder written by datasets.save_to_disk, with a column `input_ids` or `text`."""
    documents = []
    for file in readers.dataset_files(folder) or []:
        for row, _ in readers.arrow_records(file):
            documents.append(row_ids(row or {}, folder, ctx))
    if not documents:
        raise ValueError(f"{folder} holds no rows: save the dataset again")
    has_bos = all_have_bos(documents, ctx.tokenizer.bos_id)
    text = concat_documents(folder.name, documents, has_bos, "", str(folder))
    check_ids(text.ids, folder, ctx)
    return dataclasses.replace(text, sha256=sha256_bytes(text.ids.tobytes()))


def row_ids(row: dict, folder: pathlib.Path, ctx: EvalContext) -> np.ndarray:
    """Return the ids of a row of a saved dataset."""
    if "input_ids" in row:
        return np.asarray(row["input_ids"], np.int64)
    if "text" in row:
        return ctx.ids(str(row["text"]))
    raise ValueError(f"{folder} has rows of {', '.join(row)}: a column input_ids or text is needed")


def all_have_bos(documents: list[np.ndarray], bos_id: int) -> bool:
    """Whether each document begins with the token that opens a text."""
    return bos_id >= 0 and all(len(ids) and ids[0] == bos_id for ids in documents)
