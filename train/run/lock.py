"""A lock on a run folder: one process at a time works on a run, on any machine."""

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

LOCK_FILE = "run.lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Make `folder` and lock it for this process while the block lasts; yields whether this worked.

    The system keeps the lock and releases it when the process ends, even if the process is killed. The lock also
    works between machines if their shared disk has locks (NFSv4, Lustre, GPFS). Do not nest it for the same folder:
    POSIX releases a lock as soon as the process closes the file anywhere. The package filelock would leave the file
    behind. It would also take a renamed file for the lock, and NFS renames a deleted file that is still open.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / LOCK_FILE
    opened = take(file)
    try:
        if opened is not None:
            with contextlib.suppress(OSError):  # a full disk; the text is only for waiting processes
                opened.truncate(0)
                os.write(opened.fileno(), f"pid {os.getpid()} on {platform.node()}".encode())
        yield opened is not None
    finally:
        if opened is not None:
            with contextlib.suppress(OSError):  # Windows does not delete open files
                file.unlink()
            opened.close()


def holder(folder: Path) -> str:
    """The process that has locked `folder`, from its lock file: "pid 12 on node3"."""
    try:
        return (folder / LOCK_FILE).read_text(encoding="utf-8") or "another process"
    except (OSError, ValueError):  # it was just released; or Windows, where a locked file cannot be read
        return "another process"


def take(file: Path) -> BinaryIO | None:
    """The open and locked `file`; None if another process has locked it."""
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
        # Between opening and locking, its owner may have deleted the file and a third process may have made a new one.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(opened.fileno()), os.stat(file)):
                return opened
        opened.close()


def lock(opened: BinaryIO) -> None:
    """Lock an open file for this process alone, or raise BlockingIOError or PermissionError at once."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        opened.seek(0)
        msvcrt.locking(opened.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
