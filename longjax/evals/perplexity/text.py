"""Documents as ids: of flat files of tokens, JSON lines, what `datasets` saved, or a store of ours."""

import dataclasses
import json
import pathlib

import numpy as np
from absl import logging

from longjax.data import TokenStore, readers
from longjax.evals.context import EvalContext
from longjax.files import sha256_bytes, sha256_file

HOLDS = "texts to be surprised at: .bin (flat ids, each document begins with the first id) or .jsonl (text)"
SOURCE = "LongLoRA's tokenised PG19 (test.bin) and Proof-pile (test_sampled_data.bin), which the study uses, or yours"


@dataclasses.dataclass(frozen=True, eq=False)
class EvalText:
    """Documents one after the other.

    Attributes:
      name: of the file, in results.
      ids: of all of them.
      starts: where each begins in ids; the first is 0.
      opened: whether each begins with a token that only opens it.
      sha256: of what it was read from.
      path: of what it was read from, for messages.

    """

    name: str
    ids: np.ndarray
    starts: np.ndarray
    opened: bool
    sha256: str
    path: str

    def documents(self, most: int | None = None, least: int = 0) -> list[tuple[int, np.ndarray]]:
        """-> (number, ids) of the first so many documents that have at least so many tokens."""
        every = enumerate(np.split(self.ids, self.starts[1:]))
        return [(number, ids) for number, ids in every if len(ids) >= least][:most]

    def document(self, place: int) -> int:
        """-> the number of the document that the token at `place` belongs to."""
        return int(np.searchsorted(self.starts, place, side="right")) - 1


def of_documents(name: str, documents: list[np.ndarray], opened: bool, digest: str, path: str) -> EvalText:
    sizes = [len(document) for document in documents]
    ids = np.concatenate(documents) if documents else np.zeros(0, np.int32)
    return EvalText(name, ids.astype(np.int32), np.cumsum([0, *sizes[:-1]]), opened, digest, path)


def from_store(store: TokenStore, split: str = "test", begin: int = -1) -> EvalText:
    """-> the documents of a split as they are; `begin`: the id that opens a text."""
    documents = store.documents(split)
    path = f"the {split} split of {store.folder}"
    return of_documents(split, documents, all_open(documents, begin), store.sha256, path)


def read_texts(material: EvalContext, names: str) -> list[EvalText]:
    """-> the texts of these names in perplexity/, separated by commas; all that lie there if none is named."""
    folder = material.find_file(["perplexity"], HOLDS, SOURCE)
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    found = [material.find_file(wanted(name), HOLDS, SOURCE) for name in chosen] or every(folder)
    if not found:
        raise ValueError(f"{folder} holds no text: {HOLDS}. Get it from {SOURCE}")
    if len({path.stem for path in found}) < len(found):
        raise ValueError(f"{folder} holds two texts of one name: choose with --ppl_data, or rename one")
    return [read_text(path, material) for path in found]


def wanted(name: str) -> list[str]:
    return [f"perplexity/{name}{suffix}" for suffix in ("", ".bin", ".jsonl")]


def every(folder: pathlib.Path) -> list[pathlib.Path]:
    known = [path for path in folder.iterdir() if path.suffix in (".bin", ".jsonl") or (path / "state.json").exists()]
    return sorted(known)


def read_text(path: pathlib.Path, material: EvalContext) -> EvalText:
    if path.is_dir():
        return saved_dataset(path, material)
    return token_file(path, material) if path.suffix == ".bin" else json_lines(path, material)


def token_file(path: pathlib.Path, material: EvalContext) -> EvalText:
    """Flat little-endian ids, uint16 unless <name>.json beside it says otherwise: {"dtype": "uint32"}."""
    dtype, size = file_dtype(path.with_suffix(".json")), path.stat().st_size
    if size == 0 or size % dtype.itemsize:
        raise ValueError(f"{path} has {size} bytes, no whole number of {dtype.name} ids: copy it again")
    ids = np.fromfile(path, dtype)
    check_ids(ids, path, material)
    if ids[0] != material.tokenizer.bos_id >= 0:
        logging.warning("%s begins with id %d, so every %d opens a document; the tokenizer's opening id is %d",
                        path, ids[0], ids[0], material.tokenizer.bos_id)  # fmt: skip
    return EvalText(
        path.stem, ids.astype(np.int32), np.flatnonzero(ids == ids[0]), True, sha256_bytes(ids.tobytes()), str(path)
    )


def file_dtype(beside: pathlib.Path) -> np.dtype:
    try:
        said = json.loads(beside.read_text())["dtype"] if beside.is_file() else "uint16"
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{beside} must be like {{"dtype": "uint32"}}') from error
    if said not in ("uint16", "uint32"):
        raise ValueError(f"{beside} says dtype {said!r}: it can be uint16 or uint32")
    return np.dtype(said).newbyteorder("<")


def check_ids(ids: np.ndarray, path: pathlib.Path, material: EvalContext) -> None:
    """Raises ValueError for ids that the tokenizer, and so the model, does not have."""
    if len(ids) and int(ids.max()) >= material.tokenizer.vocab:
        strange = ", ".join(map(str, np.unique(ids[ids >= material.tokenizer.vocab])[:3]))
        raise ValueError(
            f"{path} has ids like {strange}, but {material.tokenizer.path} has only {material.tokenizer.vocab}: "
            f"tokenise it again, or say uint32 in {path.with_suffix('.json')}"
        )


def json_lines(path: pathlib.Path, material: EvalContext) -> EvalText:
    lines, _ = material.read_jsonl(path, ["text"])
    try:
        documents = [material.ids(str(line["text"])) for line in lines]
    except UnicodeError as error:
        raise ValueError(f"{path} holds halves of surrogate pairs, which are no text: write it again") from error
    return of_documents(path.stem, documents, material.tokenizer.bos_id >= 0, sha256_file(path), str(path))


def saved_dataset(folder: pathlib.Path, material: EvalContext) -> EvalText:
    """A folder written by datasets.save_to_disk, with a column `input_ids` or `text`."""
    documents = []
    for file in readers.dataset_files(folder) or []:
        for row, _ in readers.arrow_records(file):
            documents.append(row_ids(row or {}, folder, material))
    if not documents:
        raise ValueError(f"{folder} holds no rows: save the dataset again")
    text = of_documents(folder.name, documents, all_open(documents, material.tokenizer.bos_id), "", str(folder))
    check_ids(text.ids, folder, material)
    return dataclasses.replace(text, sha256=sha256_bytes(text.ids.tobytes()))


def row_ids(row: dict, folder: pathlib.Path, material: EvalContext) -> np.ndarray:
    if "input_ids" in row:
        return np.asarray(row["input_ids"], np.int64)
    if "text" in row:
        return material.ids(str(row["text"]))
    raise ValueError(f"{folder} has rows of {', '.join(row)}: a column input_ids or text is needed")


def all_open(documents: list[np.ndarray], begin: int) -> bool:
    """-> whether each begins with the token that opens a text."""
    return begin >= 0 and all(len(ids) and ids[0] == begin for ids in documents)
