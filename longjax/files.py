"""Files that are replaced as a whole or not at all, JSON that may come from anyone, and the SHA-256 of files."""

import codecs
import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO


@contextlib.contextmanager
def atomic_files(folder: pathlib.Path) -> Iterator[Callable[[str], BinaryIO]]:
    """Replaces several files of a folder together: all of them, or none if the block raises.

    The file that is created last is the index, without which readers do not accept the folder (config.json,
    manifest.json). It is removed before the others are replaced, so that a crash never leaves an index that describes
    other files.

    Args:
      folder: the folder; it is made if it does not exist.

    Yields:
      create(name): opens a new file for writing; it takes its name when the block ends.

    Raises:
      ValueError: the folder cannot be written, or the disk is full.

    """
    created: dict[pathlib.Path, BinaryIO] = {}

    def create(name: str) -> BinaryIO:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        created[folder / name] = (folder / f"{name}.new").open("wb")
        return created[folder / name]

    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield create
        for file in created.values():
            file.flush()
            os.fsync(file.fileno())
        if len(created) > 1:
            list(created)[-1].unlink(missing_ok=True)
        for path in created:
            path.with_name(path.name + ".new").replace(path)
    except OSError as error:
        unwritten = list(created)[-1] if created else folder
        raise ValueError(f"{unwritten} cannot be written: {error.strerror or error}") from error
    finally:
        for path, file in created.items():
            with contextlib.suppress(OSError):  # closing writes what is buffered, for which a full disk has no room
                file.close()
            path.with_name(path.name + ".new").unlink(missing_ok=True)


def check_writable(folder: pathlib.Path) -> None:
    """Makes a folder and a file in it, which it deletes. Raises ValueError if that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"{folder} cannot be written: {error.strerror or error}; choose another folder") from error


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Writes a file so that it is there in full or not at all. Raises ValueError if it cannot be written."""
    with atomic_files(path.parent) as create:
        create(path.name).write(content)


def sha256_bytes(content: bytes | memoryview | str) -> str:
    """Returns the SHA-256 of bytes, or of a text in UTF-8, as 64 hexadecimal digits."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def sha256_file(path: pathlib.Path) -> str:
    """Returns the SHA-256 of a file, which is read in blocks, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint_json(value: Any) -> str:
    """Returns the SHA-256 of a value's JSON; the order of the keys of an object does not matter."""
    return sha256_bytes(json.dumps(value, sort_keys=True))


def read_regular(path: pathlib.Path) -> bytes:
    """Reads a regular file, without a byte-order mark of UTF-8. Others, such as a FIFO, may never end: ValueError."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file")
    return path.read_bytes().removeprefix(codecs.BOM_UTF8)


def read_text(path: pathlib.Path, fallback: str | None = None) -> str:
    """Reads a text in UTF-8, with or without a byte-order mark.

    Args:
      path: of a regular file.
      fallback: encoding of files that are not UTF-8; None: they are refused.

    Raises:
      ValueError: it is no regular file, or not in UTF-8.
      OSError: it cannot be read.

    """
    data = read_regular(path)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if fallback is None:
            raise ValueError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}): convert it") from error
        return data.decode(fallback)


def read_object(path: pathlib.Path, advice: str) -> dict[str, Any]:
    """Reads a JSON object. Raises ValueError with the advice if the file is missing, damaged, or nested too deeply."""
    try:
        content = json.loads(read_text(path))
    except (OSError, RecursionError, ValueError) as error:
        fault = "damaged" if path.exists() else "missing or damaged"
        raise ValueError(f"{path} is {fault}: {advice}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it is no JSON object; {advice}")
    return content


def check_values(path: pathlib.Path, content: Mapping[str, Any], kinds: Mapping[str, type], advice: str) -> None:
    """Raises ValueError with the advice if a key of a JSON object is missing, or its value of another type."""
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise ValueError(f"{path} is damaged: {key}={str(content.get(key))[:40]}; {advice}")
