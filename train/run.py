"""One run: the model before, the fine-tune, the model after, and a folder that holds the outcome."""

import argparse
import importlib.metadata
import math
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from evaluate.cli import Parser, device_of, dtype_of
from evaluate.forgetting import weight_change
from evaluate.loss import text_loss
from evaluate.measure import book_evaluation, checkpoint, evaluation
from evaluate.plot import FIGURE_FILES
from evaluate.reference import Reference, open_reference, read_general_text, write
from evaluate.report import REPORT_FILE
from evaluate.results import RESULT_FILE, lr_label, write_json
from evaluate.setup import Setup, model_identity, open_setup
from evaluate.table import TABLE_FILE
from model.gpt2 import GPT2
from model.hub import MODEL_FILES
from model.pretrained import load_pretrained, save_pretrained
from train.device_check import compare_with_cpu
from train.loop import finetune
from train.speed import FastAdamW, fast_gradients, keep_memory

WRITTEN = (RESULT_FILE, *MODEL_FILES, TABLE_FILE, REPORT_FILE, *FIGURE_FILES)  # everything that run and sweep folders hold
MEASUREMENTS = 20  # how often the held-out loss is measured during training
CHECKPOINT_TEXTS = 32  # so many texts stand for all of them while training is under way


def open_run(args: argparse.Namespace) -> tuple[Setup, torch.device]:
    """Check the flags against the model and the text, before anything is written.

    Raises:
        ValueError, OSError: with one line on what to do.
    """
    device = device_of(args.device)
    keep_memory()
    torch.backends.cuda.matmul.allow_tf32 = True  # float32 asked for on a GPU: ten bits of mantissa are kept
    setup = open_setup(args.model, args.text, raw_text=args.raw_text, holdout=args.holdout)
    if args.seq_len > setup.config.block_size:
        raise ValueError(
            f"--seq-len {args.seq_len} is over the model's context of {setup.config.block_size} tokens; "
            f"use {setup.config.block_size} or less"
        )
    if len(setup.training_tokens) <= args.seq_len:
        raise ValueError(
            f"the text has {len(setup.training_tokens)} tokens to train on, a window needs {args.seq_len + 1}; "
            "use a longer text or a smaller --seq-len"
        )
    if args.holdout and setup.held_out < 2:
        raise ValueError(
            f"--holdout {args.holdout} of {len(setup.tokens)} tokens leaves nothing to predict; hold out more"
        )
    return setup, device


def new_folder(folder: Path, overwrite: bool = False, keep: Path | None = None) -> Path:
    """Make `folder`, and be sure that it is empty and can be written to.

    Args:
        overwrite: first delete what earlier runs left in it, and nothing else.
        keep: the model that is to be trained; a folder that holds it is never touched.

    Raises:
        ValueError: it is not empty, or cannot be made or written to.
    """
    try:
        if overwrite and folder.is_dir():
            used = (folder, *folder.glob("lr-*"))
            if keep is not None and keep.resolve() in [path.resolve() for path in used]:
                raise ValueError(f"--overwrite would delete the model {keep} itself; name another --out")
            for run_folder in (path for path in used if path != folder or is_of_a_run(path)):
                for name in WRITTEN:
                    (run_folder / name).unlink(missing_ok=True)
                if run_folder != folder and not any(run_folder.iterdir()):
                    run_folder.rmdir()
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(f"{folder} is already in use; name another --out, or start anew with --overwrite")
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"cannot write to {folder} ({error.strerror}); name another --out") from None
    return folder


def is_of_a_run(folder: Path) -> bool:
    """Whether a run or a sweep has made `folder`: a model that came from elsewhere lies in it without a result."""
    return (folder / RESULT_FILE).is_file() or not any((folder / name).exists() for name in MODEL_FILES)


def notes_on(setup: Setup) -> list[str]:
    """What somebody who reads the numbers should know."""
    notes = list(setup.book.notes)
    if setup.model == "lilliput":
        notes.append(
            "lilliput is the small model that is shipped, not GPT-2: it wants larger learning rates "
            "(about 1e-4 to 3e-3), and its figures say nothing about OpenAI's weights"
        )
    return notes


def default_folder(setup: Setup, args: argparse.Namespace) -> Path:
    """Where runs of these settings go if nothing is said."""
    parts = [setup.model, setup.book.name + ("-raw" if args.raw_text else ""), str(args.samples)]
    return Path("runs") / "-".join(parts + ([f"seed{args.seed}"] if args.seed else []))


def fresh_model(setup: Setup, args: argparse.Namespace, device: torch.device) -> GPT2:
    """The pretrained weights, as they are before any training."""
    return load_pretrained(setup.folder, dropout=args.dropout).to(device)


@dataclass(frozen=True)
class Start:
    """What the runs of one sweep share: everything that does not depend on the learning rate."""

    setup: Setup
    device: torch.device
    folder: Path
    reference: Reference
    before: dict  # the evaluation of the base model
    book: dict  # the same measures of the book's own held-out text
    identity: dict  # which model exactly


def begin(parser: Parser, args: argparse.Namespace, below: str = "") -> Start:
    """What both commands do first: check everything, make the folder, evaluate the base model.

    Args:
        below: folder inside the default one, where `--out` names none.

    Wrong input ends the program.
    """
    try:
        setup, device = open_run(args)
        model = fresh_model(setup, args, device)
        compare_with_cpu(model, device, dtype_of(args.dtype, device), args.seed)
        general = read_general_text(setup, args)
        folder = new_folder(args.out or default_folder(setup, args) / below, args.overwrite, keep=setup.folder)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    for note in notes_on(setup):
        print(f"note: {note}")
    written = write(setup, model, args, device, "writing before")
    reference = open_reference(setup, model, written, general, args, device)
    unchanged = dict.fromkeys(weight_change(model, model), 0.0)
    before = evaluation(reference, model, written, args, device, unchanged, "measuring before")
    return Start(setup, device, folder, reference, before, book_evaluation(reference), model_identity(setup))


def run(start: Start, args: argparse.Namespace, lr: float, seed: int, folder: Path) -> dict:
    """Fine-tune a fresh model at `lr`, evaluate it, and write model and result to `folder`.

    Args:
        seed: of batches and dropout. Start tokens and luck of the sampling are those of `--seed` in every run.

    Returns:
        the result, as it stands in `result.json`.
    """
    setup, device, reference = start.setup, start.device, start.reference
    model = fresh_model(setup, args, device)
    torch.manual_seed(seed)  # for dropout; batches and sampling have generators of their own
    checkpoints = [checkpoint(reference, model, args, device, 0, CHECKPOINT_TEXTS)]
    measure_every = max(1, args.samples // MEASUREMENTS)
    window = setup.training_tokens[: args.seq_len + 1].to(device)

    def sound() -> bool:
        """Whether the model still gives numbers: the step just done may have been the one too many."""
        return math.isfinite(text_loss(model, window, args.seq_len))

    began = time.monotonic()
    with tqdm(total=args.samples, desc=f"training at {lr_label(lr)}", unit="sample") as progress:

        def after_sample(sample: int, loss: float) -> None:
            progress.set_postfix(loss=f"{loss:.3f}", refresh=False)
            progress.update()
            done = sample + 1
            if (done % measure_every == 0 or done == args.samples) and sound():
                # KL and copying take more time: every second measurement, and the last, has them.
                full = done % (2 * measure_every) == 0 or done == args.samples
                measured = checkpoint(reference, model, args, device, done, CHECKPOINT_TEXTS if full else 0)
                if all(map(math.isfinite, measured.values())):
                    checkpoints.append(measured)

        losses = finetune(
            model,
            setup.training_tokens,
            lr=lr,
            samples=args.samples,
            batch_size=args.batch_size,
            seq_len=args.seq_len,
            weight_decay=args.weight_decay,
            seed=seed,
            gradients=fast_gradients(dtype_of(args.dtype, device), args.micro_batch),
            optimizer_class=FastAdamW,
            after_sample=after_sample,
        )
    seconds = {"before": start.before["seconds"], "training": time.monotonic() - began}
    after = None
    if len(losses) == args.samples and sound():
        written = write(setup, model, args, device, f"writing after {lr_label(lr)}")
        change = weight_change(fresh_model(setup, args, device), model)
        after = evaluation(reference, model, written, args, device, change, f"measuring {lr_label(lr)}")
        seconds["after"] = after["seconds"]
        save_pretrained(model, folder, tokenizer_folder=setup.folder)
    else:
        tqdm.write(f"at {lr_label(lr)} the loss after sample {len(losses)} is not finite: diverged; no model is saved")
    result = {
        "lr": lr,
        "samples": args.samples,
        "seed": seed,
        "train_loss": losses,
        "held_out_loss": [[c["sample"], c["held_out_loss"]] for c in checkpoints if "held_out_loss" in c],
        "checkpoints": checkpoints,
        "before": start.before,
        "after": after,
        "book": start.book,
        "prompts": [setup.tokenizer.decode(row) for row in reference.prompts.tolist()],
        "book_ratio": setup.book_ratio,
        "book_tokens": len(setup.tokens),
        "held_out_tokens": setup.held_out,
        "settings": {name: value if not isinstance(value, Path) else str(value) for name, value in vars(args).items()}
        | {
            "lr": lr,
            "model_name": setup.model,
            "model_identity": start.identity,
            "text_name": setup.book.name,
            "text_sha256": setup.book.sha256,
            "text_notes": setup.book.notes,
        },
        "environment": environment(device, dtype_of(args.dtype, device)) | {"seconds": seconds},
    }
    write_json(folder / RESULT_FILE, result)
    return result


def environment(device: torch.device, dtype: torch.dtype) -> dict:
    """What the numbers were made with; `dtype` is that of the matrix products, the weights are float32."""
    packages = ("torch", "numpy", "tiktoken", "safetensors", "huggingface_hub")
    if device.type == "cuda":
        device_name = torch.cuda.get_device_name(device)
    else:
        device_name = torch.cpu.get_capabilities().get("cpu_name", platform.machine())
    return {
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
        "platform": platform.platform(),
        "device": str(device),
        "device_name": device_name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "dtype": str(dtype).removeprefix("torch."),
    }
