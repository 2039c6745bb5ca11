"""Files that are written as a whole or not at all."""

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from safetensors import SafetensorError

# What a disk answers that cannot do something, such as a network share: no error of ours.
NOT_OFFERED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOTTY, errno.ENODEV)
FULL = re.compile("No space left|Disk quota exceeded")


def write_whole(file: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file in a new folder beside `file`, wait until it is on the disk, then name it `file`.

    A process that is killed at any moment leaves the old file or the new one; `tidy` deletes the new folder. An error
    leaves the old file alone. A `file` that is a link is replaced: nothing is ever written to where a link points.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".tmp-{file.name}-", dir=file.parent))
        try:
            write(folder / file.name)
            fsync(folder / file.name)
            os.replace(folder / file.name, file)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk its own way
        if FULL.search(str(error)):
            raise OSError(
                f"the disk is full: {file} was not written; make room, and the same command goes on"
            ) from None
        raise error if isinstance(error, OSError) else OSError(f"{file}: {error}") from None
    fsync(file.parent)


def write_text(file: Path, text: str) -> None:
    """Write `text` to `file` as a whole, in UTF-8; half a surrogate, which UTF-8 does not have, becomes "?"."""
    write_whole(file, lambda part: part.write_bytes(text.encode("utf-8", "replace")))


def tidy(folder: Path, names: Iterable[str]) -> None:
    """Delete what a killed process has left in `folder` of the files called `names`, half written."""
    left = re.compile(rf"\.tmp-({'|'.join(map(re.escape, names))})-[a-z0-9_]{{8}}")
    for path in folder.glob(".tmp-*"):
        if left.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def fsync(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, has reached the disk."""
    if path.is_dir():
        with contextlib.suppress(OSError):  # Windows does not open folders, and some network disks cannot do it
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    else:
        with open(path, "rb+") as written:
            try:
                os.fsync(written.fileno())
            except OSError as error:
                if error.errno not in NOT_OFFERED:
                    raise
