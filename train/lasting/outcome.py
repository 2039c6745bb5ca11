"""What a run leaves behind: `result.json`, put together in one place, and the model."""

import importlib.metadata
import os
import platform
from pathlib import Path

import torch

from data.tokenizer import copy_tokenizer
<<<<<<< HEAD
from evaluate.baseline import POINT_HELD_OUT, Baseline
from evaluate.measures.continuations import SHOWN_TEMPERATURE, SHOWN_TOP_K
from evaluate.results import RESULT_FILE, Evaluation, Result, write_result
=======
from evaluate.measures.measure import HELD_OUT_ON_THE_WAY
from evaluate.measures.reference import SHOWN_TEMPERATURE, SHOWN_TOP_K
from evaluate.measures.yardstick import Yardstick
from evaluate.results import Evaluation, Result, write_result
from evaluate.setup import Setup
>>>>>>> f3bf36d8704d57cb845bb77b74c813e383a749e5
from model.device import Machine
from model.gpt2 import GPT2
from model.pretrained import save_pretrained
from train.lasting.card import CARD_FILE, model_card
from train.lasting.folder import IDENTITY_FILE, Job, named_settings, tidy
from train.lasting.keeper import STATE_FILE


def result_of(
    baseline: Baseline,
    job: Job,
    record: dict,
    after: Evaluation | None,
    diverged: str | None,
) -> Result:
    """Everything that is known of a finished run.

    Args:
        record: its `train_loss`, `checkpoints`, the `seconds` of training and those of them spent `measuring`.
        diverged: what is not a finite number, "loss" or "gradient", if it is so.
    """
    machine = baseline.machine
    losses, checkpoints = record["train_loss"], record["checkpoints"]
    seconds = {"before": baseline.before["seconds"], "training": record["seconds"] - record["measuring"]}
    seconds["checkpoints"] = record["measuring"]
    found = {
        "lr": job.lr,
        "device": str(machine.device),
        "dtype": machine.dtype_name,
        "model_name": baseline.name,
        "model_identity": baseline.model_identity,
        "text_name": baseline.book.name,
        "text_sha256": baseline.book.sha256,
        "text_notes": baseline.book.notes,
    }
    end = {name: found[name] for name in ("lr", "device", "dtype")} | {"sample": len(losses), "what": diverged}
    return {
        "lr": job.lr,
        "samples": baseline.settings.training.samples,
        "seed": job.seed,
        "train_loss": losses,
        "held_out_loss": [[c["sample"], c["held_out_loss"]] for c in checkpoints if "held_out_loss" in c],
        "checkpoints": checkpoints,
        "diverged": end if diverged else None,
        "before": baseline.before,
        "after": after,
        "book": baseline.book_evaluation,
        "prompts": [baseline.tokenizer.decode(row) for row in baseline.passages[0].tolist()],
        "shown": {"temperature": SHOWN_TEMPERATURE, "top_k": SHOWN_TOP_K},
        "least_copy": baseline.min_copy_length,
        "book_ratio": baseline.book_ratio,
        "book_tokens": len(baseline.tokens),
        "held_out_tokens": baseline.held_out,
        "held_out_on_the_way": min(baseline.held_out, POINT_HELD_OUT),
        "settings": named_settings(baseline.settings) | found,
        "identity": job.identity,
        "environment": environment(machine) | {"seconds": seconds | ({"after": after["seconds"]} if after else {})},
    }


def keep_outcome(folder: Path, result: Result, model: GPT2 | None, baseline: Baseline) -> Result:
    """Write the model, if any, and the result; only when both are on the disk, the state may go. The card comes last.

    Raises:
        OSError: they cannot be written.
    """
<<<<<<< HEAD
    try:
        if model is not None:
            copy_tokenizer(baseline.folder, folder)
            save_pretrained(model, folder, end_of_text=baseline.tokenizer.eot_token)
            for name in MODEL_FILES:
                settle(folder / name)
        write_result(folder, result)
    except SafetensorError as error:  # a full disk is one of these to safetensors
        raise OSError(str(error)) from None
    settle(folder / RESULT_FILE)
    settle(folder)
=======
    if model is not None:
        copy_tokenizer(setup.folder, folder)
        save_pretrained(model, folder, end_of_text=setup.tokenizer.eot_token)
    write_result(folder, result)
>>>>>>> f3bf36d8704d57cb845bb77b74c813e383a749e5
    for name in (STATE_FILE, IDENTITY_FILE):
        (folder / name).unlink(missing_ok=True)
    tidy(folder)
    if model is not None:
        keep_card(folder, result)
    return result


def keep_card(folder: Path, result: Result) -> None:
    """Write the card of a run whose result is on the disk; a run is never lost to its caption."""
    try:
        (folder / CARD_FILE).write_text(model_card(result), encoding="utf-8")
    except Exception as error:  # whatever it is: the run is done and safe
        print(f"note: the model's card could not be made ({type(error).__name__}: {' '.join(str(error).split())}); "
              f"the model and its result are in {folder}", flush=True)  # fmt: skip


def environment(machine: Machine) -> dict:
    """What the numbers were made with."""
    packages = ("torch", "numpy", "tiktoken", "safetensors", "huggingface_hub")
    if machine.device.type == "cuda":
        device_name = torch.cuda.get_device_name(machine.device)
    else:
        device_name = torch.cpu.get_capabilities().get("cpu_name", platform.machine())
    return {
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
        "platform": platform.platform(),
        "device": str(machine.device),
        "device_name": device_name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "dtype": machine.dtype_name,
    }
