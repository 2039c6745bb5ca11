"""A lock on a run folder: one process at a time uses it, also between machines."""

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

LOCK_FILE = "run.lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Make and lock `folder` for the block; yields whether it worked, that is, whether no other process has the lock.

    The system releases the lock when the process ends, even if it is killed. It works between machines if their shared
    disk has locks (NFSv4, Lustre, GPFS). Do not nest it for one folder: POSIX releases a lock as soon as its process
    closes the file anywhere. The package filelock leaves the file behind, and it accepts a lock on a file that was
    deleted or renamed in the meantime, as NFS does with a deleted file that is open.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / LOCK_FILE
    opened = take(file)
    try:
        if opened is not None:
            with contextlib.suppress(OSError):  # a full disk; the text is only for messages
                opened.truncate(0)
                os.write(opened.fileno(), f"pid {os.getpid()} on {platform.node()}".encode())
        yield opened is not None
    finally:
        if opened is not None:
            with contextlib.suppress(OSError):  # Windows does not delete open files
                file.unlink()
            opened.close()


def holder(folder: Path) -> str:
    """The process that has locked `folder`, as its lock file says: "pid 12 on node3"."""
    try:
        return (folder / LOCK_FILE).read_text(encoding="utf-8") or "another process"
    except (OSError, ValueError):  # it was just released; or Windows, which lets no other process read a locked file
        return "another process"


def take(file: Path) -> BinaryIO | None:
    """Open and lock `file`; returns None if another process has locked it."""
    while True:
        opened = open(file, "a+b")
        try:
            lock(opened)
        except (BlockingIOError, PermissionError):
            opened.close()
            return None
        except BaseException:
            opened.close()
            raise
        # Between opening and locking, the former owner may have deleted the file, and a third process made another.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(opened.fileno()), os.stat(file)):
                return opened
        opened.close()


def lock(opened: BinaryIO) -> None:
    """Lock an open file, or raise BlockingIOError or PermissionError at once."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        opened.seek(0)
        msvcrt.locking(opened.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
