"""Text documents: the user's own, or the sources of the installed Python packages, which every machine has."""

import dataclasses
import functools
import os
import pathlib
import sysconfig
from collections.abc import Iterable, Iterator

from longjax.files import read_text, sha256_bytes

SUFFIXES = (".md", ".py", ".rst", ".txt")
SPLITS = ("train", "validation", "test")
SPLIT_SHARES = (0.90, 0.05, 0.05)
MIN_SPLIT_CHARACTERS = (400_000, 20_000, 20_000)  # less is too little to train or to measure on
MIN_PACKAGE_CHARACTERS = 8_000  # smaller packages are left out
SAFE_DOCUMENTS = 100  # with this many, hardly any set of hashes leaves a split without text
REPEATED_FOLDERS = {
    "_vendor", "dist-packages", "site-packages", "test", "testdata", "testing", "tests", "third_party", "vendor",
}  # fmt: skip
TABLE_FOLDERS = {
    "__pycache__", "data", "encodings", "ensurepip", "lib-dynload", "lib2to3", "locale", "node_modules", "pydoc_data",
}  # fmt: skip
SKIPPED_FOLDERS = REPEATED_FOLDERS | TABLE_FOLDERS


@dataclasses.dataclass(frozen=True)
class Document:
    """A named text. Its split depends on the name alone, so that another version of a package stays in its split."""

    name: str
    text: str

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the text."""
        return sha256_bytes(self.text)

    @property
    def split(self) -> str:
        """One of SPLITS."""
        return split_of(self.name)


def split_of(name: str, shares: tuple[float, float, float] = SPLIT_SHARES) -> str:
    """Returns the split of a document by a hash of its name without folders.

    Args:
      name: of the document; one that ends in #validation or #test, a stretch of a longer text, names its split.
      shares: of documents in the train, validation and test splits.

    """
    if (named := name.rpartition("#")[2]) in SPLITS:
        return named
    u = int(sha256_bytes(pathlib.PurePath(name).name)[:15], 16) / 16**15
    return "train" if u < shares[0] else "validation" if u < shares[0] + shares[1] else "test"


def collect_documents(text_dir: str | None = None, characters: int = 8_000_000) -> list[Document]:
    """Reads about `characters` of text. Which documents are left out depends on a hash of their names.

    Args:
      text_dir: a folder; every text file below it is a document. None: every installed package is one.
      characters: upper bound for all documents together; fewer if there is no more.

    Returns:
      The documents, each ending with a line's end, none longer than a hundredth of `characters` if there are many. Of
      a few, long ones whose names leave a split without text, the ends of the longest are held out.

    Raises:
      ValueError: there is no such folder, or too little text for one of the splits.

    """
    named_files = _user_sources(text_dir) if text_dir else _python_sources()
    sources = sorted(named_files, key=lambda source: sha256_bytes(source[0]))
    limit = characters // max(1, min(SAFE_DOCUMENTS, len(sources)))  # per document, so that no split depends on one
    documents, left = [], characters
    for name, files in sources:
        text = _concatenate(files, min(left, limit), curated=text_dir is not None)
        if text and (text_dir or len(text) >= MIN_PACKAGE_CHARACTERS):
            documents.append(Document(name, text))
            left -= len(text)
        if left < MIN_PACKAGE_CHARACTERS:
            break
    if 0 < len(documents) < SAFE_DOCUMENTS and not _has_all_splits(documents):
        documents = by_stretches(documents)
    _check(documents, f"--text_dir={text_dir}" if text_dir else "--text_dir is not given and the installed Python")
    return documents


def by_stretches(documents: list[Document]) -> list[Document]:
    """Cuts the text of the test split from the end of the longest document, and the validation split's from the next.

    So what is held out is contiguous, and long contexts fit into it.
    """
    total = sum(len(document.text) for document in documents)
    rest = sorted(documents, key=lambda document: -len(document.text))
    held_out = []
    for split, share in zip(("test", "validation"), (SPLIT_SHARES[2], SPLIT_SHARES[1]), strict=True):
        longest, *others = sorted(rest, key=lambda document: -len(document.text))
        start = longest.text.rfind("\n", 0, max(1, len(longest.text) - round(share * total))) + 1
        name = longest.name.removesuffix("#train")
        held_out.append(Document(f"{name}#{split}", longest.text[start:]))
        rest = [Document(f"{name}#train", longest.text[:start]), *others]
    train = [Document(f"{document.name.removesuffix('#train')}#train", document.text) for document in rest]
    return [document for document in (*train, *held_out) if document.text]


def _has_all_splits(documents: list[Document]) -> bool:
    sizes = {split: sum(len(d.text) for d in documents if d.split == split) for split in SPLITS}
    return all(sizes[split] >= needed for split, needed in zip(SPLITS, MIN_SPLIT_CHARACTERS, strict=True))


def _check(documents: list[Document], source: str) -> None:
    if not documents:
        raise ValueError(f"{source} holds no readable text in {' '.join(SUFFIXES)} files")
    total = sum(len(d.text) for d in documents)
    if total < sum(MIN_SPLIT_CHARACTERS):
        raise ValueError(f"{source} holds {total} characters of text: at least {sum(MIN_SPLIT_CHARACTERS)} are needed")
    for split, needed in zip(SPLITS, MIN_SPLIT_CHARACTERS, strict=True):
        characters = sum(len(d.text) for d in documents if d.split == split)
        if characters < needed:
            raise ValueError(
                f"{source} has too few documents ({len(documents)}): the {split} split has {characters} characters of "
                f"the {needed} it needs, as documents are split 90/5/5 by hash: add files, {SAFE_DOCUMENTS} are safe"
            )


def _user_sources(text_dir: str) -> Iterator[tuple[str, Iterable[pathlib.Path]]]:
    root = pathlib.Path(text_dir)
    if not root.is_dir():
        raise ValueError(f"--text_dir={text_dir} is not a folder")
    paths = [path for path in root.rglob("*") if path.suffix in SUFFIXES]
    for path in paths:
        _check_readable(path)
    return ((path.relative_to(root).as_posix(), [path]) for path in paths)


def _check_readable(path: pathlib.Path) -> None:
    """Raises ValueError for what may never end (a FIFO) or cannot be opened, so that no text is left out unseen."""
    if not path.is_file() or not os.access(path, os.R_OK):
        raise ValueError(f"--text_dir: {path} is no file that can be read: remove it, or make it readable")


def _python_sources() -> Iterator[tuple[str, Iterable[pathlib.Path]]]:
    """Yields (package, its files), of the standard library and of the packages installed beside it."""
    for folder in dict.fromkeys(sysconfig.get_paths()[name] for name in ("stdlib", "purelib")):
        for entry in pathlib.Path(folder).iterdir():
            is_package = entry.is_dir() and entry.name not in SKIPPED_FOLDERS and "." not in entry.name
            if entry.suffix == ".py" or is_package:
                yield f"{pathlib.Path(folder).name}/{entry.name}", _walk(entry)


def _walk(entry: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields text files in path order, lazily: large packages are not listed to their end."""
    if entry.is_file():
        yield entry
        return
    for folder, folders, files in os.walk(entry):
        folders[:] = sorted(set(folders) - SKIPPED_FOLDERS)
        yield from (pathlib.Path(folder, name) for name in sorted(files) if name.endswith(SUFFIXES))


def _concatenate(files: Iterable[pathlib.Path], limit: int, curated: bool) -> str:
    """Joins whole files, at most `limit` characters: the last one is cut at the end of a line."""
    texts, left = [], limit
    for path in files:
        text = _read(path)
        if curated or not _is_generated(text):
            texts.append(text)
            left -= len(text) + 1
        if left <= 0:
            break
    joined = "\n".join(text for text in texts if text)
    return joined if len(joined) <= limit else joined[: joined.rfind("\n", 0, limit) + 1]


def _read(path: pathlib.Path) -> str:
    """-> the file's text; empty if it cannot be read as UTF-8."""
    try:
        return read_text(path)
    except (OSError, ValueError):
        return ""


def _is_generated(text: str) -> bool:
    """Whether the text is a table or minified code: many digits, much of another script, or very long lines."""
    digits = sum(text.count(digit) for digit in "0123456789")
    foreign = len(text.encode()) - len(text)
    return digits > 0.15 * len(text) or foreign > 0.05 * len(text) or max(map(len, text.split("\n"))) > 400
