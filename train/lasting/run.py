"""One run: the model before, the fine-tune, the model after, and a folder that holds the outcome."""

import argparse
import importlib.metadata
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor
from tqdm import tqdm

from evaluate.loss import text_loss
from evaluate.measures.forgetting import weight_change
from evaluate.measures.measure import book_evaluation, checkpoint, evaluation
from evaluate.measures.reference import Reference, open_reference, read_general_text, write
from evaluate.results import RESULT_FILE, lr_label, write_json
from evaluate.setup import Setup, open_setup
from model.device import device_of, dtype_of, fastest_dtype
from model.gpt2 import GPT2
from model.hub import MODEL_FILES
from model.pretrained import load_pretrained, save_pretrained
from train.adamw import AdamW
from train.lasting.folder import (
    IDENTITY_FILE,
    Job,
    check_job,
    check_neighbours,
    check_room,
    new_folder,
    state_bytes,
    tidy,
)
from train.lasting.interruption import Interrupted, Signals, ending_in_one_line
from train.lasting.keeper import STATE_FILE, Keeper
from train.lasting.state import settle
from train.loop import finetune
from train.parallel.team import Team, own_device, processes
from train.speed.adamw import CompiledAdamW, FastAdamW, check_compiler
from train.speed.memory import keep_memory
from train.speed.step import fast_gradients
from train.verify.device_check import compare_with_cpu

MEASUREMENTS = 20  # how often the held-out loss is measured during training
FULL_EVERY = 4  # of these, every so many also measure KL and copying, which take more time; the last one does
CHECKPOINT_TEXTS = 32  # so many texts stand for all of them while training is under way


def open_run(args: argparse.Namespace) -> tuple[Setup, torch.device]:
    """Check the flags against the model and the text, before anything is written.

    Raises:
        ValueError, OSError: with one line on what to do.
    """
    device = device_of(own_device(args.device))
    if args.compile and device.type != "cpu":
        raise ValueError(f"--compile is for the CPU: on {device} AdamW takes all tensors at once; leave it out")
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


def notes_on(setup: Setup, dtype: torch.dtype, device: torch.device) -> list[str]:
    """What somebody who reads the numbers, or waits for them, should know."""
    notes = list(setup.book.notes)
    if device.type == "cpu" and dtype == torch.bfloat16 and fastest_dtype(device) != dtype:
        notes.append("this CPU has no bfloat16 and imitates it, many times slower; --dtype float32 is for it")
    if setup.model == "lilliput":
        notes.append(
            "lilliput is the small model that is shipped, not GPT-2: it wants larger learning rates "
            "(about 1e-4 to 3e-3), and its figures say nothing about OpenAI's weights"
        )
    return notes


def fresh_model(setup: Setup, args: argparse.Namespace, device: torch.device) -> GPT2:
    """The pretrained weights, as they are before any training."""
    return load_pretrained(setup.folder, dropout=args.dropout).to(device)


def open_optimizer(model: GPT2, args: argparse.Namespace, lr: float) -> AdamW:
    kind = CompiledAdamW if args.compile else FastAdamW
    return kind(model.parameters(), lr=lr, weight_decay=args.weight_decay)


@dataclass
class Opening:
    """What is checked and read before anything is written."""

    setup: Setup
    device: torch.device
    model: GPT2 | None  # the base model; None where all runs are finished and it is not needed
    general: Tensor | None  # of `--general-text`


def prepare(
    setup: Setup,
    device: torch.device,
    args: argparse.Namespace,
    folder: Path,
    jobs: list[Job],
    common: dict | None = None,
) -> Opening:
    """Check everything that can be wrong with `jobs`, and only then make `folder`.

    Args:
        common: of a sweep, whose folder holds the jobs' folders: its `common_identity`.

    Raises:
        ValueError, OSError: with one line on what to do.
    """
    to_do = [job for job in jobs if args.overwrite or not job.finished]
    model = None
    if to_do:
        model = fresh_model(setup, args, device)
        compare_with_cpu(model, device, dtype_of(args.dtype, device), args.seed)
        if args.compile:
            check_compiler()
    general = read_general_text(setup, args)
    check_room(folder, setup, to_do, args.save_model, at_once=processes()[1] if common else 1)
    new_folder(folder, args.overwrite, keep=setup.folder, sweep=common is not None)
    for job in jobs:
        check_job(job)
    if common is not None:
        check_neighbours(folder, common)
    return Opening(setup, device, model, general)


@dataclass(frozen=True)
class Start:
    """What the runs of one sweep share: everything that does not depend on the learning rate."""

    setup: Setup
    device: torch.device
    reference: Reference
    before: dict  # the evaluation of the base model
    book: dict  # the same measures of the book's own held-out text


def begin(opening: Opening, args: argparse.Namespace) -> Start:
    """Evaluate the base model: once is enough, with the same weights, start tokens and luck for every run."""
    setup, device = opening.setup, opening.device
    model, opening.model = opening.model, None  # every run has its own: this one's memory shall be free again
    for note in notes_on(setup, dtype_of(args.dtype, device), device):
        print(f"note: {note}")
    print(f"a run that is interrupted goes on from its last state, {state_bytes(setup) / 1e9:.2g} GB in {STATE_FILE}")
    written = write(setup, model, args, device, "writing before")
    reference = open_reference(setup, model, written, opening.general, args, device)
    unchanged = dict.fromkeys(weight_change(model, model), 0.0)
    before = evaluation(reference, model, written, args, device, unchanged, "measuring before")
    return Start(setup, device, reference, before, book_evaluation(reference))


def run(start: Start, args: argparse.Namespace, job: Job, signals: Signals, team: Team | None = None) -> dict:
    """Fine-tune a fresh model, evaluate it, and write model and result to the job's folder, which is claimed.

    It goes on from the state in that folder if there is one.

    Args:
        team: the other processes that train with this one.

    Returns:
        the result, as it stands in `result.json`.

    Raises:
        ValueError: the state is damaged.
        OSError: the outcome cannot be written; the state that led to it is kept.
        Interrupted: by a signal; in training, after the state was saved.
    """
    setup, device, reference, folder = start.setup, start.device, start.reference, job.folder
    dtype, name = dtype_of(args.dtype, device), lr_label(job.lr)
    tidy(folder)
    write_json(folder / IDENTITY_FILE, job.identity)
    model = fresh_model(setup, args, device)
    # The seed is that of batches and dropout. Luck and start tokens of the sampling are those of `--seed` in every run.
    torch.manual_seed(job.seed)  # for dropout; batches and sampling have generators of their own
    optimizer = open_optimizer(model, args, job.lr)
    keeper = Keeper(folder / STATE_FILE, model, optimizer, job.identity)
    record = keeper.restore()
    if record is None:
        first = checkpoint(reference, model, args, device, 0, CHECKPOINT_TEXTS)
        record = {"train_loss": [], "checkpoints": [first], "seconds": 0.0}
    else:
        print(f"going on from sample {optimizer.steps} of {args.samples} in {keeper.file}", flush=True)
    losses, checkpoints = record["train_loss"], record["checkpoints"]
    measure_every = max(1, args.samples // MEASUREMENTS)
    window = setup.training_tokens[: args.seq_len + 1].to(device)
    compute = fast_gradients(dtype, args.micro_batch)
    if team is not None:
        team.share(optimizer)
        compute = team.gradients(model, optimizer, dtype, args.micro_batch, job.seed)
    last_loss = math.nan

    def gradients(*batch) -> float:
        nonlocal last_loss
        last_loss = compute(*batch)
        return last_loss

    def sound() -> bool:
        """Whether the model still gives numbers: the step just done may have been the one too many."""
        return math.isfinite(text_loss(model, window, args.seq_len))

    def save() -> bool:
        record["seconds"] = time.monotonic() - began
        return keeper.save(record)

    def after_sample(sample: int, loss: float) -> None:
        progress.set_postfix(loss=f"{loss:.3f}", refresh=False)
        progress.update()
        losses.append(loss)
        done = sample + 1
        if (done % measure_every == 0 or done == args.samples) and sound():
            full = done % (FULL_EVERY * measure_every) == 0 or done == args.samples
            measured = checkpoint(reference, model, args, device, done, CHECKPOINT_TEXTS if full else 0)
            if all(map(math.isfinite, measured.values())):
                checkpoints.append(measured)
        signal = signals.received or 0
        if team is not None:
            signal = team.agree(signal)
        if signal:
            saved = save()
            if team is not None:
                team.agree(0)  # nobody leaves before the state is saved: torchrun stops all when one has left
                team.leave()
            message = f"the same command goes on from sample {keeper.saved_steps} of {args.samples}"
            raise Interrupted(signal, message if saved or keeper.saved_steps else "no state could be saved")
        if done == args.samples or keeper.due():
            save()

    began = time.monotonic() - record["seconds"]
    progress = tqdm(total=args.samples, initial=optimizer.steps, desc=f"training at {name}", unit="sample")
    with signals.deferred(), progress:
        train(setup, args, model, optimizer, job.seed, gradients, after_sample)
    if team is not None:
        team.leave()
    if signals.received:
        raise Interrupted(signals.received)
    seconds = {"before": start.before["seconds"], "training": time.monotonic() - began}
    after = diverged = None
    if len(losses) == args.samples and sound():
        written = write(setup, model, args, device, f"writing after {name}")
        change = weight_change(fresh_model(setup, args, device), model)
        after = evaluation(reference, model, written, args, device, change, f"measuring {name}")
        seconds["after"] = after["seconds"]
    else:
        diverged = {
            "sample": len(losses),
            "what": "gradient" if len(losses) < args.samples and math.isfinite(last_loss) else "loss",
            "lr": job.lr,
            "dtype": str(dtype).removeprefix("torch."),
            "device": str(device),
        }
        tqdm.write(
            f"at {name} ({diverged['dtype']} on {device}) the {diverged['what']} after sample {len(losses)} is not "
            "finite: diverged; no model is saved"
        )
    result = {
        "lr": job.lr,
        "samples": args.samples,
        "seed": job.seed,
        "train_loss": losses,
        "held_out_loss": [[c["sample"], c["held_out_loss"]] for c in checkpoints if "held_out_loss" in c],
        "checkpoints": checkpoints,
        "diverged": diverged,
        "before": start.before,
        "after": after,
        "book": start.book,
        "prompts": [setup.tokenizer.decode(row) for row in reference.prompts.tolist()],
        "book_ratio": setup.book_ratio,
        "book_tokens": len(setup.tokens),
        "held_out_tokens": setup.held_out,
        "settings": {name: value if not isinstance(value, Path) else str(value) for name, value in vars(args).items()}
        | {
            "lr": job.lr,
            "model_name": setup.model,
            "model_identity": setup.model_identity,
            "text_name": setup.book.name,
            "text_sha256": setup.book.sha256,
            "text_notes": setup.book.notes,
        },
        "identity": job.identity,
        "environment": environment(device, dtype) | {"seconds": seconds},
    }
    keep_outcome(folder, result, model if after and args.save_model else None, setup.folder)
    return result


def train(
    setup: Setup,
    args: argparse.Namespace,
    model: GPT2,
    optimizer: AdamW,
    seed: int,
    gradients: Callable[[GPT2, Tensor, Tensor], float],
    after_sample: Callable[[int, float], None],
) -> None:
    """The loop with the flags of `args`: the same for all processes of a run, which would wait for each other else."""
    finetune(
        model,
        setup.training_tokens,
        lr=optimizer.lr,
        samples=args.samples,
        batch_size=args.batch_size,
        seq_len=args.seq_len,
        seed=seed,
        gradients=gradients,
        optimizer=optimizer,
        after_sample=after_sample,
    )


def keep_outcome(folder: Path, result: dict, model: GPT2 | None, tokenizer_folder: Path) -> None:
    """Write the model, if any, and the result; only when both are on the disk, the state may go.

    Raises:
        OSError: they cannot be written.
    """
    try:
        if model is not None:
            save_pretrained(model, folder, tokenizer_folder=tokenizer_folder)
            for name in MODEL_FILES:
                settle(folder / name)
        write_json(folder / RESULT_FILE, result)
    except SafetensorError as error:  # a full disk is one of these to safetensors
        raise OSError(str(error)) from None
    settle(folder / RESULT_FILE)
    settle(folder)
    for name in (STATE_FILE, IDENTITY_FILE):
        (folder / name).unlink(missing_ok=True)
    tidy(folder)


def follow(args: argparse.Namespace) -> None:
    """The part of every process but the first in a data-parallel run: train with it, and say and write nothing.

    The first checks, evaluates, resumes and saves. Where it finds an error it ends, and torchrun ends the others.
    """
    device = device_of(own_device(args.device))
    team = Team(device)  # waits until the first one has found everything in order
    try:
        if not team.agree(0):
            return  # the run is finished already
        setup, device = open_run(args)
        model = fresh_model(setup, args, device)
        optimizer = open_optimizer(model, args, args.lr)
        team.share(optimizer)
        with ending_in_one_line() as signals:

            def after_sample(sample: int, loss: float) -> None:
                if signal := team.agree(signals.received or 0):
                    team.agree(0)
                    raise SystemExit(128 + signal)

            with signals.deferred():
                gradients = team.gradients(model, optimizer, dtype_of(args.dtype, device), args.micro_batch, args.seed)
                train(setup, args, model, optimizer, args.seed, gradients, after_sample)
    finally:
        team.leave()


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
