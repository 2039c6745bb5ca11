"""Keeping the state of a run on disk, and going on from it."""

import time
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from model.gpt2 import GPT2
from train.adamw import AdamW
from train.lasting.state import load_state, save_state

STATE_FILE = "state.safetensors"
SLOW_DISK = 2e8  # bytes a second, assumed until a save has been measured


def is_due(since: float, took: float) -> bool:
    """Whether to save again, `since` seconds after the last time, which `took` so many.

    A save every 50 times its own length costs 1/51 of the time; and more than one a minute helps nobody.
    """
    return since >= max(60.0, 50 * took)


class Keeper:
    """Saves everything that the rest of a run depends on: weights, moments, step, random numbers, and the record.

    Batch k is a function of the seed and k, so the step says which come next.

    Args:
        file: the one file that is replaced again and again.
        identity: of the run; a state of another is refused.
    """

    def __init__(self, file: Path, model: GPT2, optimizer: AdamW, identity: dict):
        self.file, self.model, self.optimizer, self.identity = file, model, optimizer, identity
        self.saved_at = time.monotonic()
        self.took = sum(tensor.nbytes for tensor in self.tensors().values()) / SLOW_DISK
        self.saved_steps = 0  # of the file on the disk

    def tensors(self) -> dict[str, Tensor]:
        """Weights and moments by name, the very ones that are trained."""
        names, parameters = zip(*self.model.named_parameters())
        kinds = {"weight": parameters, "m": self.optimizer.m, "v": self.optimizer.v}
        return {f"{kind}.{name}": t for kind, ts in kinds.items() for name, t in zip(names, ts, strict=True)}

    def restore(self) -> dict | None:
        """Put the saved state back, into model, optimizer and random numbers; returns the record saved with it.

        None where nothing was saved.

        Raises:
            ValueError: the file is damaged, or another run's.
        """
        if not self.file.is_file():
            return None
        tensors, info = load_state(self.file)
        if info.get("identity") != self.identity:
            raise ValueError(f"{self.file} is of another run; delete it to start anew")
        with torch.no_grad():
            for name, tensor in self.tensors().items():
                tensor.copy_(tensors[name])
        self.optimizer.steps = self.saved_steps = info["steps"]
        torch.set_rng_state(tensors["rng.cpu"])
        device = self.model.wte.weight.device
        if device.type == "cuda" and "rng.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng.cuda"], device)
        self.saved_at = time.monotonic()
        return info["record"]

    def save(self, record: dict) -> bool:
        """Save now, and say whether it worked; where it did not, the older state stays and so does the run."""
        steps, began = self.optimizer.steps, time.monotonic()
        rng = {"rng.cpu": torch.get_rng_state()}
        device = self.model.wte.weight.device
        if device.type == "cuda":
            rng["rng.cuda"] = torch.cuda.get_rng_state(device)
        try:
            save_state(self.file, self.tensors() | rng, {"steps": steps, "identity": self.identity, "record": record})
            self.saved_steps = steps
        except OSError as error:
            tqdm.write(f"warning: the state after sample {steps} was not saved ({error}); training goes on without")
        self.saved_at = time.monotonic()
        self.took = self.saved_at - began
        return self.saved_steps == steps

    def due(self) -> bool:
        return is_due(time.monotonic() - self.saved_at, self.took)
