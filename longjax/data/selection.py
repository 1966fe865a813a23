"""Chooses the documents to train on: the same ones, in the same order, for every length and every method.

Length upsampling keeps all long documents and a share of the short ones, source by source, so that the sources'
shares stay (arXiv:2402.10171, section 3, as in its code). There the choice depends on a stream of random numbers and on
the order in which processes finish; here it is a hash of the document's name and a keyed permutation.
Letters: I documents.
"""

import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from longjax import files
from longjax.data.corpus import SPLITS
from longjax.data.permutation import mix_bits, permute
from longjax.data.store import TokenStore
from longjax.ranges import check_memory

# Shares of SlimPajama's sources: those in the code of arXiv:2402.10171; and those in its section 5.3 and in appendix
# 9.3 of arXiv:2409.12181, which are LLaMA's.
SLIMPAJAMA_CODE = {
    "RedPajamaC4": 0.26609933, "RedPajamaCommonCrawl": 0.53374772, "RedPajamaStackExchange": 0.03169647,
    "RedPajamaWikipedia": 0.03402128, "RedPajamaGithub": 0.05004782, "RedPajamaArXiv": 0.04290379,
    "RedPajamaBook": 0.0414836,
}  # fmt: skip
SLIMPAJAMA_PAPER = {
    "RedPajamaCommonCrawl": 0.67, "RedPajamaC4": 0.15, "RedPajamaGithub": 0.045, "RedPajamaWikipedia": 0.045,
    "RedPajamaBook": 0.045, "RedPajamaArXiv": 0.025, "RedPajamaStackExchange": 0.02,
}  # fmt: skip
# Shares of ProLong's rows (arXiv:2410.02660), 60 % of them long: those of the first two.
PROLONG = {
    "code-by-repo": 0.3, "book": 0.3, "fineweb-edu": 0.1, "fineweb": 0.1, "stackexchange": 0.04, "dolmawiki": 0.04,
    "tuluv2": 0.03, "arxiv": 0.03, "openwebmath": 0.03, "textbooks": 0.03,
}  # fmt: skip
SHARES = {"slimpajama_code": SLIMPAJAMA_CODE, "slimpajama_paper": SLIMPAJAMA_PAPER, "prolong": PROLONG}
CHARACTERS_PER_TOKEN = 3.68  # the estimate in the code of arXiv:2402.10171


@dataclasses.dataclass(frozen=True)
class Selection:
    """Documents in the order in which they are packed.

    Attributes:
      docs: int64, their numbers in the store; a document may occur several times.
      metadata: how they were chosen, and the hash of the store.
      name: of the selection, for error messages.

    """

    docs: np.ndarray
    metadata: dict[str, Any]
    name: str = "the selection"

    @property
    def sha256(self) -> str:
        """Hash of the store and the documents' numbers."""
        return files.fingerprint_json([self.metadata["store"], files.sha256_bytes(self.docs.astype("<u4").tobytes())])


@dataclasses.dataclass(frozen=True)
class Rule:
    """How `select` chooses documents.

    Attributes:
      tokens: number of tokens to choose; None: all that the store has.
      shares: of the tokens, by source, in any unit; None: documents are taken in order, whatever their source.
      keep: share of short documents that are kept.
      short: documents with fewer tokens are short.
      min_length: documents with fewer tokens are never chosen.
      estimate: whether the tokens of a document are estimated as its characters / 3.68, as in the code of the paper.
      repeat: whether a source that runs out of documents is repeated.
      split: the split that documents are taken from.
      seed: key of all choices.
      sources: the sources that documents are taken from; empty: all.

    """

    tokens: int | None = None
    shares: Mapping[str, float] | None = None
    keep: float = 1.0
    short: int = 4096
    min_length: int = 0
    estimate: bool = False
    repeat: bool = False
    split: str = "train"
    seed: int = 0
    sources: tuple[str, ...] = ()

    def __post_init__(self):
        if not 0 <= self.keep <= 1:
            raise ValueError(f"--keep={self.keep} is a share: it must lie between 0 and 1")
        if self.tokens is not None and self.tokens < 1:
            raise ValueError(f"--tokens={self.tokens} must be positive")
        if self.shares and not (min(self.shares.values()) >= 0 and 0 < sum(self.shares.values()) < np.inf):
            raise ValueError(f"--shares={dict(self.shares)} must be finite, not negative, and not all zero")
        if self.shares and self.tokens is None:
            raise ValueError("--shares needs --tokens: shares of how many tokens?")


def select_all(store: TokenStore, split: str = "train") -> Selection:
    """Returns all documents of a split, in the store's order."""
    docs = np.flatnonzero(store.docs["split"] == SPLITS.index(split))
    return Selection(docs, {"store": store.sha256, "split": split}, f"the {split} split")


def tokens_by_source(store: TokenStore, split: str = "train") -> dict[str, float]:
    """Returns the number of tokens of each source in a split."""
    docs = store.docs[store.docs["split"] == SPLITS.index(split)]
    tokens = np.bincount(docs["source"], docs["length"], len(store.manifest["sources"]))
    return dict(zip(store.manifest["sources"], tokens.tolist(), strict=True))


def boost_shares(shares: Mapping[str, float], sources: list[str], boosted: float = 0.6) -> dict[str, float]:
    """Returns normalized shares of which those of some sources are replaced; the result no longer adds up to one.

    Args:
      shares: by source, in any unit.
      sources: those to boost.
      boosted: their new share.

    Raises:
      ValueError: one of the sources has no share.

    """
    if unknown := [source for source in sources if source not in shares]:
        raise ValueError(f"--boost={','.join(unknown)}: the sources are {', '.join(shares)}")
    total = sum(shares.values())
    return {source: boosted if source in sources else share / total for source, share in shares.items()}


def select(store: TokenStore, rule: Rule) -> Selection:
    """Chooses documents by a rule, in a keyed random order.

    Raises:
      ValueError: the split has no documents, or a source is unknown or runs out.

    """
    candidates = select_all(store, rule.split).docs
    if rule.sources:
        wanted = [_number(store, source) for source in rule.sources]
        candidates = candidates[np.isin(store.docs["source"][candidates], wanted)]
    if not len(candidates):
        raise ValueError(f"--split={rule.split}: {store.folder} has no documents in it")
    docs = candidates[permute(np.arange(len(candidates)), len(candidates), (rule.seed, 1))]
    size = _sizes(store, docs, rule.estimate)
    fits = np.flatnonzero(
        (size >= rule.min_length) & ((size >= rule.short) | (_uniform(store, docs, rule) <= rule.keep))
    )
    if rule.tokens is None:
        chosen, repeated = fits, {}
    else:
        chosen, repeated = _fill(store, docs, size, fits, rule)
    if not len(chosen):
        raise ValueError("no document is selected: lower --min_length, or raise --keep or --tokens")
    settings = dataclasses.asdict(rule) | {"shares": dict(rule.shares) if rule.shares else None}
    order = docs[chosen % len(docs)]
    return Selection(order, {"store": store.sha256, "rule": settings, "repeated": repeated})


def _number(store: TokenStore, source: str) -> int:
    names = store.manifest["sources"]
    if source not in names:
        raise ValueError(f"--shares, --sources: there is no source {source}; the store has {', '.join(names)}")
    return names.index(source)


def _sizes(store: TokenStore, docs: np.ndarray, estimate: bool) -> np.ndarray:
    if not estimate:
        return store.docs["length"][docs].astype(np.int64)
    if not store.docs["characters"][docs].all():
        raise ValueError("--estimate needs characters: some documents came as tokens")
    return store.docs["characters"][docs] / CHARACTERS_PER_TOKEN


def _uniform(store: TokenStore, docs: np.ndarray, rule: Rule) -> np.ndarray:
    """-> a number in [0, 1) per document, which depends on its name and the seed alone."""
    (key,) = np.random.SeedSequence((rule.seed, 2)).generate_state(1, np.uint64)
    return (mix_bits(store.docs["id"][docs] ^ key) >> np.uint64(11)) * 2.0**-53


def _fill(store: TokenStore, docs: np.ndarray, size: np.ndarray, fits: np.ndarray, rule: Rule):
    """-> indices into `docs`, those of the k-th repetition offset by k * len(docs), and {source: number of passes}."""
    assert rule.tokens
    shares = rule.shares or {"all sources": 1.0}
    indices, repeated = [], {}
    for source, share in shares.items():
        if share == 0:
            continue
        in_source = fits[store.docs["source"][docs[fits]] == _number(store, source)] if rule.shares else fits
        budget = rule.tokens * share / sum(shares.values())
        times = _passes(int(size[in_source].sum()), budget, source, rule)
        check_memory(f"--repeat: {times} passes over {source}", 32 * times * len(in_source))  # four arrays of int64
        repetitions = np.add.outer(len(docs) * np.arange(times), in_source).ravel()
        sizes = np.tile(size[in_source], times)
        indices.append(repetitions[np.cumsum(sizes) - sizes <= budget])
        repeated |= {source: times} if times > 1 else {}
    return np.sort(np.concatenate(indices)), repeated


def _passes(available: int, budget: float, source: str, rule: Rule) -> int:
    """-> the number of passes over the source's tokens that reach its budget."""
    if available >= budget:
        return 1
    if not rule.repeat or not available:
        raise ValueError(
            f"--tokens={rule.tokens}: {source} holds {available} tokens to choose from, and its share is {budget:.0f}: "
            "lower --tokens, raise --keep, or pass --repeat"
        )
    return int(-(-budget // available))


def save_selection(selection: Selection, path: str | os.PathLike, store: TokenStore) -> None:
    """Writes selection.npy and selection.json into a folder; they refer to the store by its relative path."""
    folder, file = pathlib.Path(path), io.BytesIO()
    np.save(file, selection.docs.astype("<u4"))
    description = {
        "about": selection.metadata, "folder": os.path.relpath(store.folder.resolve(), folder.resolve()),
        "documents": len(selection.docs), "sha256": selection.sha256,
    }  # fmt: skip
    with files.atomic_files(folder) as create:
        create("selection.npy").write(file.getvalue())
        create("selection.json").write((json.dumps(description, indent=1) + "\n").encode())


def open_selection(path: str | os.PathLike) -> tuple[Selection, pathlib.Path]:
    """Reads a selection and the folder of its store. Raises ValueError for a file that is missing or damaged."""
    folder = pathlib.Path(path)
    description = files.read_object(folder / "selection.json", "select again")
    kinds = {"about": dict, "sha256": str, "folder": str}
    files.check_values(folder / "selection.json", description, kinds, "select again")
    try:
        docs = np.load(folder / "selection.npy").astype(np.int64)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{folder / 'selection.npy'} is missing or damaged: select again") from error
    selection = Selection(docs, description["about"], str(folder))
    if selection.sha256 != description["sha256"]:
        raise ValueError(f"{folder / 'selection.npy'} does not match selection.json: select again")
    return selection, folder / description["folder"]
