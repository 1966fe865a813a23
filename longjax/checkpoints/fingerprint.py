"""Identifies a checkpoint by the content of its files, every weight included."""

import hashlib
import os
import pathlib

from longjax.files import sha256_file


def checkpoint_fingerprint(*folders: str | os.PathLike | None) -> str:
    """Returns a sha256 of the content of folders; the folders' own names do not count, None is left out."""
    digest = hashlib.sha256()
    for folder in (pathlib.Path(folder) for folder in folders if folder):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                digest.update(f"{path.relative_to(folder)} {sha256_file(path)}\n".encode())
    return digest.hexdigest()
