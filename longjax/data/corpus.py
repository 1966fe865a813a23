"""Text that every machine has: the sources of Python's library and of the installed packages. Or the user's own."""

import dataclasses
import functools
import os
import pathlib
import sysconfig
from collections.abc import Iterable, Iterator

from longjax.files import sha256_bytes

SUFFIXES = (".md", ".py", ".rst", ".txt")
SPLITS = ("train", "validation", "test")
SHARES = (0.90, 0.05, 0.05)
FEWEST = (400_000, 20_000, 20_000)  # characters: else a split is too small to train or to measure on
SHORTEST = 8_000  # characters of a package worth a document of its own
MANY = 100  # documents: with so many, hardly any hash leaves a split without text
REPEATED = {
    "_vendor",
    "dist-packages",
    "site-packages",
    "test",
    "testdata",
    "testing",
    "tests",
    "third_party",
    "vendor",
}
TABLES = {
    "__pycache__",
    "data",
    "encodings",
    "ensurepip",
    "lib-dynload",
    "lib2to3",
    "locale",
    "node_modules",
    "pydoc_data",
}
SKIPPED = REPEATED | TABLES  # folders


@dataclasses.dataclass(frozen=True)
class Document:
    """One long text. Its split depends on its name alone, so that another version of a package stays in its split."""

    name: str
    text: str

    @functools.cached_property
    def sha256(self) -> str:
        return sha256_bytes(self.text)

    @property
    def split(self) -> str:
        return split_of(self.name)


def split_of(name: str, shares: tuple[float, float, float] = SHARES) -> str:
    """-> the split of the document of this name; folders do not count."""
    u = int(sha256_bytes(pathlib.PurePath(name).name)[:15], 16) / 16**15
    return "train" if u < shares[0] else "validation" if u < shares[0] + shares[1] else "test"


def collect(text_dir: str | None = None, characters: int = 8_000_000) -> list[Document]:
    """-> about `characters` of text. Which documents are left out depends on a hash of their names.

    Args:
      text_dir: a folder; every text file below it is a document. None: every installed package is one.
      characters: of all documents together; fewer if there is no more.

    """
    found = _user_sources(text_dir) if text_dir else _python_sources()
    sources = sorted(found, key=lambda source: sha256_bytes(source[0]))
    most = characters // max(1, min(MANY, len(sources)))  # of one document, so that no split hangs on it
    documents, left = [], characters
    for name, files in sources:
        text = _concatenate(files, min(left, most), curated=text_dir is not None)
        if text and (text_dir or len(text) >= SHORTEST):
            documents.append(Document(name, text))
            left -= len(text)
        if left < SHORTEST:
            break
    _check(documents, f"--text_dir={text_dir}" if text_dir else "--text_dir is not given and the installed Python")
    return documents


def _check(documents: list[Document], source: str) -> None:
    if not documents:
        raise ValueError(f"{source} holds no readable text in {' '.join(SUFFIXES)} files")
    total = sum(len(d.text) for d in documents)
    if total < sum(FEWEST):
        raise ValueError(f"{source} holds {total} characters of text: at least {sum(FEWEST)} are needed")
    for split, fewest in zip(SPLITS, FEWEST, strict=True):
        held = sum(len(d.text) for d in documents if d.split == split)
        if held < fewest:
            raise ValueError(
                f"{source} has too few documents ({len(documents)}): the {split} split got {held} characters of the "
                f"{fewest} it needs, as documents are split 90/5/5 by hash; add files, {MANY} or more is safe"
            )


def _user_sources(text_dir: str) -> Iterator[tuple[str, Iterable[pathlib.Path]]]:
    root = pathlib.Path(text_dir)
    if not root.is_dir():
        raise ValueError(f"--text_dir={text_dir} is not a folder")
    return ((path.relative_to(root).as_posix(), [path]) for path in root.rglob("*") if path.suffix in SUFFIXES)


def _python_sources() -> Iterator[tuple[str, Iterable[pathlib.Path]]]:
    """-> (package, its files), of the standard library and of what is installed beside it."""
    for folder in dict.fromkeys(sysconfig.get_paths()[name] for name in ("stdlib", "purelib")):
        for entry in pathlib.Path(folder).iterdir():
            if entry.suffix == ".py" or (entry.is_dir() and entry.name not in SKIPPED and "." not in entry.name):
                yield f"{pathlib.Path(folder).name}/{entry.name}", _walk(entry)


def _walk(entry: pathlib.Path) -> Iterator[pathlib.Path]:
    """-> text files in path order, lazily: large packages are never listed to their end."""
    if entry.is_file():
        yield entry
        return
    for folder, folders, files in os.walk(entry):
        folders[:] = sorted(set(folders) - SKIPPED)
        yield from (pathlib.Path(folder, name) for name in sorted(files) if name.endswith(SUFFIXES))


def _concatenate(files: Iterable[pathlib.Path], most: int, curated: bool) -> str:
    """-> whole files one after the other, the last one cut at the end of a line."""
    parts, left = [], most
    for path in files:
        text = _read(path)
        if curated or not _generated(text):
            parts.append(text)
            left -= len(text) + 1
        if left <= 0:
            break
    text = "\n".join(part for part in parts if part)
    return text if len(text) <= most else text[: text.rfind("\n", 0, most) + 1]


def _read(path: pathlib.Path) -> str:
    """-> the file's text, empty if it is none."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _generated(text: str) -> bool:
    """Tables and minified code: mostly digits, other scripts, or lines that nobody wrote."""
    digits = sum(text.count(digit) for digit in "0123456789")
    foreign = len(text.encode()) - len(text)
    return digits > 0.15 * len(text) or foreign > 0.05 * len(text) or max(map(len, text.split("\n"))) > 400
