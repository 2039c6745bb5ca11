"""Who works on a run: one process at a time, whichever machine it is on."""

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

LOCK_FILE = "run.lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Whether this process alone has `folder`, for as long as the block lasts. Makes the folder.

    The claim is a lock that the system keeps and takes back when the process ends, however it ends: what a
    killed process leaves behind stops nobody. It holds between machines too where the disk they share does
    (NFSv4, Lustre, GPFS). Not to be nested for the same folder: POSIX forgets a lock as soon as its process
    closes the file anywhere. The package filelock would leave the file, and takes one that was renamed under its
    hands, as NFS does with a deleted file that is open, for the claim.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / LOCK_FILE
    opened = take(file)
    try:
        if opened is not None:
            with contextlib.suppress(OSError):  # a full disk; it is for those who wait, and no part of the claim
                opened.truncate(0)
                os.write(opened.fileno(), f"pid {os.getpid()} on {platform.node()}".encode())
        yield opened is not None
    finally:
        if opened is not None:
            with contextlib.suppress(OSError):  # Windows does not delete open files
                file.unlink()
            opened.close()


def holder(folder: Path) -> str:
    """Who has claimed `folder`, as far as its lock file says it: "pid 12 on node3"."""
    try:
        return (folder / LOCK_FILE).read_text(encoding="utf-8") or "another process"
    except (OSError, ValueError):  # it has just been left; or Windows, which does not let read what is locked
        return "another process"


def take(file: Path) -> BinaryIO | None:
    """The open and locked `file`, None if another process has it."""
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
        # Between our opening and our locking it, the one who had it may have deleted it, and a third made another.
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
