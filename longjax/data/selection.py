"""Which documents are trained on: the same ones, in the same order, for every length and every method.

Length upsampling keeps all long documents and a share of the short ones, source by source, so that the sources'
shares stay (arXiv:2402.10171, section 3, as its code does it). There the choice follows a stream of random numbers
and the order in which processes finish; here it is a hash of the document's name and a keyed permutation.
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
from longjax.data.permutation import mix, permute
from longjax.data.store import TokenStore, read_json
from longjax.files import fingerprint_json, sha256_bytes

# Shares of SlimPajama's sources: in the code of arXiv:2402.10171, and in its section 5.3 and appendix 9.3 of
# arXiv:2409.12181, which are LLaMA's.
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
CHARACTERS = 3.68  # a token, by the estimate in the code of arXiv:2402.10171


@dataclasses.dataclass(frozen=True)
class Selection:
    """Numbers of documents in the order in which they are packed.

    Attributes:
      docs: a document may be there several times.
      about: how they were chosen, and from which store.

    """

    docs: np.ndarray
    about: dict[str, Any]
    name: str = "the selection"

    @property
    def sha256(self) -> str:
        return fingerprint_json([self.about["store"], sha256_bytes(self.docs.astype("<u4").tobytes())])


@dataclasses.dataclass(frozen=True)
class Rule:
    """How documents are chosen.

    Attributes:
      tokens: as many as this; None: all that there are.
      shares: of the tokens, by source, in any unit; None: as documents come, whatever their source.
      keep: the share of short documents that stay.
      short: documents with fewer tokens are short.
      min_length: documents with fewer tokens are never chosen.
      estimate: whether a document's tokens are taken to be its characters / 3.68, as in the code of the paper.
      repeat: whether a source that runs out is gone through again.
      split: that documents are taken from.
      seed: of all choices.
      sources: that documents are taken from; empty: all.

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
        if self.shares and (min(self.shares.values()) < 0 or sum(self.shares.values()) <= 0):
            raise ValueError(f"--shares={dict(self.shares)} must not be negative, and not all zero")
        if self.shares and self.tokens is None:
            raise ValueError("--shares needs --tokens: shares of how many tokens?")


def select_all(store: TokenStore, split: str = "train") -> Selection:
    """-> all documents of a split, in the store's order."""
    docs = np.flatnonzero(store.docs["split"] == SPLITS.index(split))
    return Selection(docs, {"store": store.sha256, "split": split}, f"the {split} split")


def shares_of(store: TokenStore, split: str = "train") -> dict[str, float]:
    """-> how many tokens each source has."""
    mine = store.docs[store.docs["split"] == SPLITS.index(split)]
    tokens = np.bincount(mine["source"], mine["length"], len(store.manifest["sources"]))
    return dict(zip(store.manifest["sources"], tokens.tolist(), strict=True))


def boosted(shares: Mapping[str, float], sources: list[str], share: float = 0.6) -> dict[str, float]:
    """-> shares with those of some sources set to `share`, before they are made to add up to one."""
    if unknown := [source for source in sources if source not in shares]:
        raise ValueError(f"--boost={','.join(unknown)}: the sources are {', '.join(shares)}")
    return {source: share if source in sources else part / sum(shares.values()) for source, part in shares.items()}


def select(store: TokenStore, rule: Rule) -> Selection:
    """-> the chosen documents, in a keyed random order."""
    found = select_all(store, rule.split).docs
    if rule.sources:
        found = found[np.isin(store.docs["source"][found], [_number(store, source) for source in rule.sources])]
    if not len(found):
        raise ValueError(f"--split={rule.split}: {store.folder} has no documents in it")
    docs = found[permute(np.arange(len(found)), len(found), (rule.seed, 1))]
    size = _sizes(store, docs, rule.estimate)
    fits = np.flatnonzero(
        (size >= rule.min_length) & ((size >= rule.short) | (_chance(store, docs, rule) <= rule.keep))
    )
    if rule.tokens is None:
        chosen, repeated = fits, {}
    else:
        chosen, repeated = _fill(store, docs, size, fits, rule)
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
    return store.docs["characters"][docs] / CHARACTERS


def _chance(store: TokenStore, docs: np.ndarray, rule: Rule) -> np.ndarray:
    """-> a number in [0, 1) a document, which depends on its name and the seed alone."""
    (key,) = np.random.SeedSequence((rule.seed, 2)).generate_state(1, np.uint64)
    return (mix(store.docs["id"][docs] ^ key) >> np.uint64(11)) * 2.0**-53


def _fill(store: TokenStore, docs: np.ndarray, size: np.ndarray, fits: np.ndarray, rule: Rule):
    """-> places in the order, of the second time around beyond its end, and {source: how often it was gone through}."""
    assert rule.tokens
    shares = rule.shares or {"all sources": 1.0}
    places, repeated = [], {}
    for source, share in shares.items():
        if share == 0:
            continue
        mine = fits[store.docs["source"][docs[fits]] == _number(store, source)] if rule.shares else fits
        budget = rule.tokens * share / sum(shares.values())
        times = _times(int(size[mine].sum()), budget, source, rule)
        passes = np.concatenate([mine + k * len(docs) for k in range(times)])
        used = np.cumsum(np.tile(size[mine], times))
        places.append(passes[used - np.tile(size[mine], times) <= budget])
        repeated |= {source: times} if times > 1 else {}
    return np.sort(np.concatenate(places)), repeated


def _times(have: int, budget: float, source: str, rule: Rule) -> int:
    """-> how often the source must be gone through to exceed its budget."""
    if have >= budget:
        return 1
    if not rule.repeat or not have:
        raise ValueError(
            f"--tokens={rule.tokens}: {source} holds {have} tokens to choose from, and its share is {budget:.0f}: "
            "lower --tokens, raise --keep, or pass --repeat"
        )
    return int(-(-budget // have))


def save_selection(selection: Selection, path: str | os.PathLike, store: TokenStore) -> None:
    """Writes selection.npy and selection.json into the folder."""
    folder, file = pathlib.Path(path), io.BytesIO()
    np.save(file, selection.docs.astype("<u4"))
    where = os.path.relpath(store.folder.resolve(), folder.resolve())
    about = {"about": selection.about, "folder": where, "documents": len(selection.docs), "sha256": selection.sha256}
    with files.atomic_files(folder) as create:
        create("selection.npy").write(file.getvalue())
        create("selection.json").write((json.dumps(about, indent=1) + "\n").encode())


def open_selection(path: str | os.PathLike) -> tuple[Selection, pathlib.Path]:
    """-> the selection in a folder, and where its store lies."""
    folder = pathlib.Path(path)
    said = read_json(folder / "selection.json", "select again")
    try:
        docs = np.load(folder / "selection.npy").astype(np.int64)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{folder / 'selection.npy'} is missing or damaged: select again") from error
    selection = Selection(docs, said["about"], str(folder))
    if selection.sha256 != said["sha256"]:
        raise ValueError(f"{folder / 'selection.npy'} does not match selection.json: select again")
    return selection, folder / said["folder"]
