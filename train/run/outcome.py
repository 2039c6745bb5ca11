"""What a run leaves behind: `result.json`, put together in one place, and the model."""

import importlib.metadata
import os
import platform
from pathlib import Path

import torch

from data.files import write_text
from data.settings import LEVERS
from data.tokenizer import copy_tokenizer
from evaluate.baseline import POINT_HELD_OUT, Baseline
from evaluate.measures.continuations import SHOWN_TEMPERATURE, SHOWN_TOP_K, decode_whole, is_wrapped
from evaluate.results import BEST_FOLDER, RESULT_FILE, Result, best_point, read_json, read_result, write_result
from model.device import Machine
from model.gpt2 import GPT2
from model.hub import MODEL_FILES, WEIGHTS_FILE
from model.pretrained import save_pretrained
from train.levers import rate_of_step
from train.run.card import CARD_FILE, drop_card, is_card, model_card
from train.run.checkpoint import CHECKPOINT_FILE
from train.run.folder import IDENTITY_FILE, Job, named_settings, tidy_run
from train.run.lock import locked


def result_of(baseline: Baseline, job: Job, history: dict, measured: dict, diverged: str | None) -> Result:
    """Everything that is known of a finished run.

    Args:
        history: its `train_loss`, its `points`, the `seconds` of training and those of them spent `measuring`.
        diverged: what is not a finite number, "loss" or "gradient", if it is so.
    """
    machine, training = baseline.machine, job.training
    losses, points = history["train_loss"], history["points"]
    lowest = best_point(points)
    seconds = {"before": baseline.before["seconds"], "training": history["seconds"] - history["measuring"]}
    seconds["checkpoints"] = history["measuring"]
    found = {
        "lr": job.lr,
        **{name: job.identity[name] for name in ("samples", *LEVERS)},
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
        "samples": training.samples,
        "seed": job.seed,
        "train_loss": losses,
        "rates": [rate_of_step(step, job.lr, training) for step in range(len(losses))],
        "checkpoints": points,
        "diverged": end if diverged else None,
        "before": baseline.before,
        **measured,
        "best_step": lowest and lowest["sample"],
        "book": baseline.book_evaluation,
        "prompts": [decode_whole(baseline.tokenizer, row) for row in baseline.passages[0].tolist()],
        "shown": {"temperature": SHOWN_TEMPERATURE, "top_k": SHOWN_TOP_K, "wrapped": is_wrapped(baseline.book.text)},
        "least_copy": baseline.min_copy_length,
        "in_sample_ratio": baseline.in_sample_ratio,
        "book_tokens": len(baseline.tokens),
        "held_out_tokens": baseline.held_out,
        "held_out_on_the_way": min(baseline.held_out, POINT_HELD_OUT),
        "settings": named_settings(baseline.settings) | found,
        "identity": job.identity,
        "environment": environment(machine)
        | {"seconds": seconds | {when: of["seconds"] for when, of in measured.items() if of}},
    }


def keep_outcome(folder: Path, result: Result, model: GPT2 | None, baseline: Baseline) -> None:
    """Write the model, if any, and the result; only when both are on the disk, the checkpoint is deleted."""
    for name in (RESULT_FILE, *MODEL_FILES):  # of a shorter run: no other model may lie beside a result
        (folder / name).unlink(missing_ok=True)
    drop_card(folder)
    if model is not None:
        copy_tokenizer(baseline.folder, folder)
        save_pretrained(model, folder, end_of_text=baseline.tokenizer.eot_token)
    write_result(folder, result)
    tidy_up(folder, result, baseline.settings.keep_state)


def complete(job: Job, keep_state: bool) -> None:
    """Do what a process that was killed after its result has left undone."""
    if read_json(job.folder / IDENTITY_FILE) == job.identity and job.finished:
        with locked(job.folder) as ours:
            if ours:
                tidy_up(job.folder, read_result(job.folder), keep_state)


def tidy_up(folder: Path, result: Result, keep_state: bool) -> None:
    """Write the cards, then delete what only an unfinished run needs; last run.json, which shows that this is done."""
    try:  # a failure here must not lose the finished run
        for place, best in ((folder, False), (folder / BEST_FOLDER, True)):
            card = place / CARD_FILE
            whole = (place / WEIGHTS_FILE).is_file() and result["best" if best else "after"]
            if whole and not place.is_symlink() and (is_card(card) or not os.path.lexists(card)):
                write_text(card, model_card(result, best))
    except Exception as error:  # whatever it is: the run is done and safe
        print(f"note: the model's card could not be made ({type(error).__name__}: {' '.join(str(error).split())}); "
              f"the model and its result are in {folder}", flush=True)  # fmt: skip
    if not keep_state:
        (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    tidy_run(folder)
    (folder / IDENTITY_FILE).unlink(missing_ok=True)


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
