"""The state of an unfinished training run: one safetensors file, replaced as a whole or not at all."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from data.files import write_whole


def save_state(file: Path, tensors: dict[str, Tensor], info: dict) -> None:
    """Write `tensors`, and `info` as JSON in the file's header, so that both are of the same moment.

    Raises:
        OSError: it cannot be written; what was there before is still there.
    """
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    text = json.dumps(info)
    metadata = {"info": text, "sha256": checksum(tensors, text)}
    write_whole(file, lambda part: save_file(tensors, part, metadata))


def load_state(file: Path) -> tuple[dict[str, Tensor], dict]:
    """(tensors, info) as `save_state` wrote them.

    Raises:
        ValueError: the file is damaged, if only in one bit.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
            metadata = opened.metadata()
        if checksum(tensors, metadata["info"]) != metadata["sha256"]:
            raise ValueError("its checksum is wrong")
        return tensors, json.loads(metadata["info"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error}); delete it to start anew") from None


def checksum(tensors: dict[str, Tensor], text: str) -> str:
    """sha256 of `text` and of every tensor's name, dtype, shape and bytes, whatever their order."""
    digest = hashlib.sha256(text.encode("utf-8"))
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def differences(wanted: dict, found: dict) -> str:
    """What differs between the settings asked for and those that were found, in words; empty where nothing does."""
    names = [name for name in wanted | found if wanted.get(name) != found.get(name)]
    return ", ".join(f"{name} was {found.get(name)}, is {wanted.get(name)}" for name in names)
