"""The state of an unfinished training run: one safetensors file, replaced as a whole or not at all."""

import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


def save_state(file: Path, tensors: dict[str, Tensor], info: dict) -> None:
    """Write `tensors`, and `info` as JSON in the file's header, so that both are of the same moment.

    The new file gets a name of its own, reaches the disk and only then takes the old one's place: a
    run that is killed at any instant leaves a whole file, the old or the new.
    """
    temporary = file.with_name(file.name + ".part")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, {"info": json.dumps(info)})
    with open(temporary, "rb+") as written:
        os.fsync(written.fileno())
    os.replace(temporary, file)


def load_state(file: Path) -> tuple[dict[str, Tensor], dict]:
    """(tensors, info) as `save_state` wrote them.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
            return tensors, json.loads(opened.metadata()["info"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error}); delete it to start anew") from None
