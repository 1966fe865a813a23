"""A folder belongs to one process at a time. A process that was killed leaves no lock behind."""

import contextlib
import errno
import os
import pathlib
import socket
import sys
from collections.abc import Iterator
from typing import IO

from absl import logging

NAME = ".lock"  # of the file in the folder; its owner's process and host are in it
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)  # file systems without locks


@contextlib.contextmanager
def locked(folder: pathlib.Path, flag: str, wait: bool = False) -> Iterator[None]:
    """Holds a folder, which is made if it is not there, inside the block; what stays empty is removed.

    The kernel releases the lock (flock) with the process. Where the file system has no locks, a warning says so.

    Args:
      folder: of one owner at a time.
      flag: that names the folder, for messages.
      wait: wait for another owner, with a line that says so, instead of raising.

    Raises:
      ValueError: another process holds the folder, or it cannot be written.

    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = acquire(folder, flag, wait)
    except OSError as error:
        raise ValueError(f"{flag}={folder} cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / NAME).unlink(missing_ok=True)  # while it is held, so that nobody else's is removed
            for place in made:
                place.rmdir()  # fails unless it is empty
        file.close()


def acquire(folder: pathlib.Path, flag: str, wait: bool) -> IO[str]:
    """Returns the open file that holds the lock of a folder."""
    while True:
        file = (folder / NAME).open("a+")
        if not lock_file(file, wait=False):
            file.seek(0)
            owner = f"{flag}={folder} is in use by {file.read().strip() or 'another process'}"
            if not wait:
                file.close()
                raise ValueError(f"{owner}: wait until it ends, or choose another folder")
            print(f"{owner}: waiting until it ends ...", file=sys.stderr, flush=True)
            lock_file(file, wait=True)
        if is_current(file, folder / NAME):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            return file
        file.close()  # its owner has removed it since


def lock_file(file: IO[str], wait: bool) -> bool:
    """Returns whether the lock was got. Raises OSError for faults of the disk."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        logging.warning("%s cannot be locked on this file system: let one process at a time use it", file.name)
    return True


def is_current(file: IO[str], path: pathlib.Path) -> bool:
    """Returns whether an open file is the one that the path names now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
