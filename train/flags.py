"""The flags that `python -m train` and `python -m train.sweep` share."""

import argparse
from pathlib import Path

from evaluate.flags import add_machine_flags, add_sampling_flags, add_text_flags, filled, positive_int, share
from evaluate.settings import TRIAL, Sampling
from train.settings import Request, Training

TRIAL_TEXTS = 32  # of a trial, unless more are asked for: what measures it shall not take longer than its training


def request_of(args: argparse.Namespace) -> Request:
    """What the flags of `add_request_flags` ask for."""
    if args.sequences is None:
        args.sequences = TRIAL_TEXTS if args.samples < TRIAL else Sampling.sequences
    return filled(Request, vars(args))


def add_request_flags(parser: argparse.ArgumentParser) -> None:
    """Everything that a `Request` says."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default=Request.model,
        help="gpt2, gpt2-medium, gpt2-large, gpt2-xl (fetched once and cached), lilliput (small, shipped), a folder with "
        "config.json, model.safetensors, vocab.json and merges.txt, or another GPT-2 of the hub: owner/name[@revision]",
    )
    add_training_flags(parser)
    add_text_flags(parser)
    add_sampling_flags(parser, f"{Sampling.sequences}, in a trial {TRIAL_TEXTS}")
    add_machine_flags(parser)


def add_training_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument(
        "--samples",
        type=positive_int,
        default=Training.samples,
        metavar="N",
        help=f"optimizer steps, each on one batch; below {TRIAL} it is a trial, and measured with less effort",
    )
    group.add_argument(
        "--batch-size", type=positive_int, default=Training.batch_size, metavar="B", help="windows in a batch"
    )
    group.add_argument(
        "--seq-len", type=positive_int, default=Training.seq_len, metavar="T", help="input tokens in a window"
    )
    group.add_argument(
        "--weight-decay",
        type=share,
        default=Training.weight_decay,
        metavar="W",
        help="AdamW's decoupled decay, of every parameter",
    )
    group.add_argument(
        "--dropout",
        type=share,
        default=Training.dropout,
        metavar="P",
        help="probability; GPT-2 was pretrained with 0.1, the exercise has none",
    )
    group.add_argument(
        "--holdout",
        type=share,
        default=Training.holdout,
        metavar="SHARE",
        help="share of the text, its end, that is not trained on but measured; the exercise has 0",
    )
    group.add_argument(
        "--general-text",
        metavar="TEXT",
        help="another text, on which forgetting is measured too: a UTF-8 file, voyage or gulliver (default: none)",
    )
    group.add_argument(
        "--micro-batch",
        type=positive_int,
        metavar="N",
        help="windows computed at a time: less memory, the same gradients (default: the whole batch)",
    )


def add_out_flags(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help=f"folder for the outcome, new or of the same run; what was interrupted there goes on (default: {default})",
    )
    parser.add_argument("--overwrite", action="store_true", help="delete what an earlier run left in that folder")
    parser.add_argument(
        "--no-save-model",
        dest="save_model",
        action="store_false",
        help="keep only result.json of each run, not the model (default: keep both)",
    )
