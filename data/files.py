"""Files that are written as a whole or not at all."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError


def write_whole(file: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a temporary file beside `file`, wait until it is on the disk, then give it the name `file`.

    A process that is killed at any moment leaves the old file or the new one. An error leaves the old one, and no
    temporary file.
    """
    temporary = file.with_name(f".tmp-{os.getpid()}-{file.name}")  # each process has its own
    try:
        write(temporary)
        fsync(temporary)
        os.replace(temporary, file)
    except SafetensorError as error:  # safetensors reports a full disk this way
        raise OSError(str(error)) from None
    finally:
        temporary.unlink(missing_ok=True)
    fsync(file.parent)


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
            os.fsync(written.fileno())
