"""Files that are replaced whole or not at all."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import BinaryIO


@contextlib.contextmanager
def atomic_files(folder: pathlib.Path) -> Iterator[Callable[[str], BinaryIO]]:
    """Gives `create(name)`, which opens a new file. When the block ends well, the new ones take the places of older
    ones, the last one made last; else nothing has changed. Raises ValueError if the disk is full.

    What would read the folder needs that last one (config.json). It goes first, so that nobody can take new files
    for old ones even if the process is killed in that moment.
    """
    made: dict[pathlib.Path, BinaryIO] = {}

    def create(name: str) -> BinaryIO:
        made[folder / name] = (folder / f"{name}.new").open("wb")
        return made[folder / name]

    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield create
        for file in made.values():
            file.flush()
            os.fsync(file.fileno())
        if len(made) > 1:
            list(made)[-1].unlink(missing_ok=True)
        for path in made:
            path.with_name(path.name + ".new").replace(path)
    except OSError as error:
        where = list(made)[-1] if made else folder
        raise ValueError(f"{where} cannot be written: {error.strerror or error}") from error
    finally:
        for path, file in made.items():
            with contextlib.suppress(OSError):  # of what a full disk could not take
                file.close()
            path.with_name(path.name + ".new").unlink(missing_ok=True)


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    with atomic_files(path.parent) as create:
        create(path.name).write(content)
