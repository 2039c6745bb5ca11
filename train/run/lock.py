"""A lock on a run folder: one process at a time uses it, also between machines."""

import contextlib
import os
import platform
import stat
from collections.abc import Iterator
from pathlib import Path

from data.files import NOT_OFFERED

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
                os.ftruncate(opened, 0)
                os.lseek(opened, 0, os.SEEK_SET)
                os.write(opened, f"pid {os.getpid()} on {platform.node()}".encode())
        yield opened is not None
    finally:
        if opened is not None:
            with contextlib.suppress(OSError):  # Windows does not delete open files
                file.unlink()
            os.close(opened)


def holder(folder: Path) -> str:
    """The process that has locked `folder`, as its lock file says: "pid 12 on node3"."""
    try:
        return (folder / LOCK_FILE).read_text(encoding="utf-8") or "another process"
    except (OSError, ValueError):  # it was just released; or Windows, which lets no other process read a locked file
        return "another process"


def take(file: Path) -> int | None:
    """Open and lock `file`; returns its descriptor, or None if another process has locked it.

    Never through a link, nor a file that is somebody's own: what a lock file holds is written over, and it is deleted.
    """
    while True:
        if file.is_symlink():
            raise ValueError(f"{file} is a link; delete it, or name another --out")
        opened = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            lock(opened, file)
            found = os.fstat(opened)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or os.read(opened, 4) not in (b"", b"pid "):
                raise ValueError(f"{file} is no lock of a run; rename it, or name another --out")
            # Between opening and locking, the former owner may have deleted the file, and a third process made another.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(found, os.stat(file)):
                    return opened
        except (BlockingIOError, PermissionError):
            os.close(opened)
            return None
        except BaseException:
            os.close(opened)
            raise
        os.close(opened)


def lock(opened: int, file: Path) -> None:
    """Lock an open file, or raise BlockingIOError or PermissionError at once. A disk without locks is no error."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(opened, msvcrt.LK_NBLCK, 1)
        return
    try:
        fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise
        print(f"note: the disk of {file.parent} has no locks: start nothing a second time there", flush=True)
