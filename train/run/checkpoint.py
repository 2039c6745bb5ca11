"""The checkpoint of an unfinished run: one safetensors file, replaced as a whole or not at all."""

import hashlib
import json
import time
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from data.files import write_whole
from model.gpt2 import GPT2
from model.pretrained import read_tensors
from train.adamw import AdamW

CHECKPOINT_FILE = "checkpoint.safetensors"
SLOW_DISK = 2e8  # bytes a second, assumed until a save has been timed


class Checkpointer:
    """Saves everything that the rest of a run depends on: weights, moments, step, random numbers, and the history.

    Batch k is a function of the seed and k, so the step says which batches come next.

    Args:
        file: replaced by each save.
        identity: of the run; `check_job` refuses the checkpoint of another.
    """

    def __init__(self, file: Path, model: GPT2, optimizer: AdamW, identity: dict):
        self.file, self.model, self.optimizer, self.identity = file, model, optimizer, identity
        self.saved_at = time.monotonic()
        self.took = sum(tensor.nbytes for tensor in self.tensors().values()) / SLOW_DISK  # seconds
        self.saved_steps = 0  # of the file on the disk

    def tensors(self) -> dict[str, Tensor]:
        """Trained weights and moments by name, the tensors themselves."""
        names, parameters = zip(*((name, p) for name, p in self.model.named_parameters() if p.requires_grad))
        kinds = {"weight": parameters, "m": self.optimizer.m, "v": self.optimizer.v}
        return {f"{kind}.{name}": t for kind, ts in kinds.items() for name, t in zip(names, ts, strict=True)}

    def restore(self) -> dict | None:
        """Load the checkpoint into model, optimizer and random numbers; returns its history, None if there is none."""
        if not self.file.is_file():
            return None
        tensors, info = load_checkpoint(self.file)
        with torch.no_grad():
            for name, tensor in self.tensors().items():
                tensor.copy_(tensors[name])
        self.optimizer.steps = self.saved_steps = info["steps"]
        torch.set_rng_state(tensors["rng.cpu"])
        device = self.model.wte.weight.device
        if device.type == "cuda" and "rng.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng.cuda"], device)
        self.saved_at = time.monotonic()
        return info["history"]

    def save(self, history: dict) -> bool:
        """Save now; returns whether it worked. If not, the older checkpoint stays and the run continues."""
        steps, began = self.optimizer.steps, time.monotonic()
        rng = {"rng.cpu": torch.get_rng_state()}
        device = self.model.wte.weight.device
        if device.type == "cuda":
            rng["rng.cuda"] = torch.cuda.get_rng_state(device)
        info = {"steps": steps, "identity": self.identity, "history": history}
        try:
            save_checkpoint(self.file, self.tensors() | rng, info)
            self.saved_steps = steps
        except OSError as error:
            tqdm.write(
                f"warning: the checkpoint after step {steps} was not saved ({error}); training continues without it"
            )
        self.saved_at = time.monotonic()
        self.took = self.saved_at - began
        return self.saved_steps == steps

    def due(self, ended: bool) -> bool:
        """Whether to save now; after the last step (`ended`) in any case if a minute has passed since the last save."""
        return is_due(time.monotonic() - self.saved_at, 0.0 if ended else self.took)


def is_due(since: float, took: float) -> bool:
    """Whether to save again, `since` seconds after the last save, which `took` seconds.

    A save every 50 times its own length costs 1/51 of the time; more than one a minute is of no use.
    """
    return since >= max(60.0, 50 * took)


def save_checkpoint(file: Path, tensors: dict[str, Tensor], info: dict) -> None:
    """Write `tensors`, and `info` as JSON in the file's header, so that both are of the same moment."""
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    text = json.dumps(info)
    metadata = {"info": text, "sha256": checksum(tensors, text)}
    write_whole(file, lambda part: save_file(tensors, part, metadata))


def load_checkpoint(file: Path) -> tuple[dict[str, Tensor], dict]:
    """(tensors, info) as `save_checkpoint` wrote them; a single wrong bit is an error."""
    try:
        tensors, metadata = read_tensors(file)
        if checksum(tensors, metadata["info"]) != metadata["sha256"]:
            raise ValueError("its checksum is wrong")
        return tensors, json.loads(metadata["info"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error}); delete it to start anew") from None


def checksum(tensors: dict[str, Tensor], text: str) -> str:
    """sha256 of `text` and of every tensor's name, dtype, shape and bytes, in the order of the names."""
    digest = hashlib.sha256(text.encode("utf-8"))
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
