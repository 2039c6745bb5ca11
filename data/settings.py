"""All settings of a fine-tune, its evaluation and a pretraining: name, type, default, unit, help and check of each.

`flags.py` makes the commands' flags from these fields. Only light modules are imported here; flags.py explains why.
"""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from data.flags import checked, not_negative, part, positive_float, positive_int, seed, share, temperature, whole_number

TRIAL = 100  # steps; a run with fewer is a trial,
TRIAL_TEXTS = 32  # and is measured on fewer texts: measuring should not take longer than training

# Files in a folder of runs.
REPORT_FILE = "report.html"
RATINGS_FILE = "ratings.jsonl"


def setting(
    default: Any, help: str, check: Callable[[str], Any] = os.path.expanduser, flag: str | None = None, **options
) -> Any:
    """Return a dataclass field with the help text and the options of its flag.

    Args:
        help: meaning and unit. The default is added, unless the help states it as "(default: ...)".
        check: converts the text of a flag into a value, or raises an error; by default ~ becomes the home folder.
        flag: by default the field's name with dashes, after `--no-` if the setting is on by default.
        options: other options of argparse, such as `metavar`.
    """
    return dataclasses.field(default=default, metadata={"help": help, "type": check, "flag": flag, **options})


@dataclass(frozen=True)
class Sampling:
    """How a model writes the texts on which it is measured."""

    sequences: int = setting(
        256,
        f"texts to write, each from a random token; the exercise writes 10 (default: 256, in a trial {TRIAL_TEXTS})",
        positive_int,
        flag="--eval-sequences",
        metavar="N",
    )
    new_tokens: int = setting(100, "new tokens in each text", positive_int, flag="--eval-tokens", metavar="N")
    temperature: float = setting(1.0, "divides the logits; 0: always the most likely token", temperature, metavar="T")
    top_k: int = setting(50, "sample from the K most likely tokens; 0: from all tokens", whole_number, metavar="K")
    seed: int = setting(0, "random seed for batches, dropout, start tokens and sampling", seed, metavar="N")


LEVERS = ("schedule", "warmup", "train", "leash", "clip")  # fields of `Training`; train/levers.py explains them


@dataclass(frozen=True)
class Training:
    """How a model is fine-tuned. A *sample* is one optimizer step on one batch."""

    samples: int = setting(
        800,
        f"optimizer steps; fewer than {TRIAL} are a trial, which is measured on fewer texts",
        positive_int,
        metavar="N",
    )
    batch_size: int = setting(16, "windows in a batch", positive_int, metavar="B")
    seq_len: int = setting(256, "input tokens in a window", positive_int, metavar="T")
    weight_decay: float = setting(0.01, "AdamW's decoupled weight decay, on every parameter", share, metavar="W")
    dropout: float = setting(
        0.0, "dropout probability; GPT-2 was pretrained with 0.1, the exercise uses none", share, metavar="P"
    )
    holdout: float = setting(
        0.1,
        "share of the text, at its end, that is measured but not trained on; the exercise uses 0",
        share,
        metavar="SHARE",
    )
    seed: int = Sampling.seed  # of batches and dropout; --seed sets both
    micro_batch: int | None = setting(
        None, "windows computed at once: less memory, same gradients (default: whole batch)", positive_int, metavar="N"
    )
    patience: int | None = setting(
        None,
        "early stopping after N measurements without a lower held-out loss; they come after 5, 10, ..., 30, 40, 50, "
        "60, 80, 100, 120 steps, ... (default: off; train.find: 3)",
        positive_int,
        metavar="N",
    )
    schedule: str = setting(
        "constant",
        "the learning rate after the warm-up: constant, or falling to 0",
        choices=("constant", "linear", "cosine"),
    )
    warmup: int = setting(0, "steps in which the learning rate rises to --lr", whole_number, metavar="STEPS")
    train: str = setting(
        "all", "the part that is trained: all, attention, mlp, norms or last:N (blocks)", part, metavar="PART"
    )
    leash: float = setting(
        0.0, "add BETA x KL(base || tuned), a KL penalty; a step takes a third longer", not_negative, metavar="BETA"
    )
    clip: float | None = setting(
        None, "gradient clipping: largest norm of the gradient (default: none)", positive_float, metavar="NORM"
    )


@dataclass(frozen=True)
class Settings:
    """All settings of a command, except learning rates, the number of seeds and folders."""

    model: str = setting(
        "gpt2",
        "gpt2, gpt2-medium, gpt2-large, gpt2-xl (downloaded once and cached), lilliput (small, shipped), a folder with "
        "config.json, model.safetensors, vocab.json and merges.txt, or another GPT-2 of the hub: owner/name[@revision]",
    )
    text: str = setting("gulliver", "gulliver (downloaded once and cached), voyage (shipped) or a UTF-8 file")
    raw_text: bool = setting(
        False, "keep the file as served, with Project Gutenberg's header, footer and CRLF (default: cut both, use LF)"
    )
    general_text: str | None = setting(
        None, "another text, to measure forgetting: a UTF-8 file, voyage or gulliver (default: none)", metavar="TEXT"
    )
    training: Training = Training()
    sampling: Sampling = Sampling()
    device: str = setting(
        "auto",
        "auto (cuda if available, else cpu), cpu, cuda, cuda:N, or mps, which is known to give wrong GPT-2 results "
        "without an error",
    )
    dtype: str = setting(
        "auto",
        "precision of matrix products; weights and optimizer state are always float32; auto: bfloat16 where the "
        "hardware supports it",
        choices=("auto", "float32", "bfloat16"),
    )
    save_model: bool = setting(True, "keep only result.json of each run, not the model (default: keep both)")
    keep_best: bool = setting(
        True,
        "do not keep the weights of the lowest held-out loss in best/ (default: do, if they are not the last)",
        flag="--no-best",
    )
    keep_state: bool = setting(
        False,
        "keep the optimizer state of a finished run, so that the same command with more --samples and the same --out "
        "goes on (default: delete it)",
    )

    def __post_init__(self):
        training = self.training
        if training.warmup > training.samples:
            raise ValueError(f"--warmup {training.warmup} is over the {training.samples} steps of --samples; use fewer")
        if training.schedule != "constant" and (training.patience or self.keep_state):
            raise ValueError(f"--schedule {training.schedule} needs a known end; leave out --patience and --keep-state")


def vocabulary(text: str) -> int:  # the bytes and the end of a text at least; an id is stored in 16 bits
    return checked(int, text, lambda n: 257 <= n <= 2**16, "a whole number from 257 to 65,536")


@dataclass(frozen=True)
class Recipe:
    """All settings that change the result of a pretraining, except the corpus."""

    vocab_size: int = setting(4096, "tokens, the 256 bytes included", vocabulary)
    n_layer: int = setting(4, "blocks", positive_int)
    n_head: int = setting(4, "attention heads in a block", positive_int)
    n_embd: int = setting(256, "width of the model, C", positive_int)
    block_size: int = setting(256, "context in tokens, also the length T of every window", positive_int)
    batch_size: int = setting(16, "windows in a batch, B", positive_int)
    steps: int = setting(10_000, "optimizer steps", positive_int)
    lr: float = setting(2e-3, "peak learning rate", positive_float)
    warmup: int = setting(200, "steps until the peak", positive_int)
    weight_decay: float = setting(0.1, "AdamW's decoupled weight decay, on matrices only", share)
    clip: float = setting(1.0, "largest norm of the gradient; a longer one is scaled down", positive_float)
    held_out: int = setting(12, "whole texts to hold out", positive_int)
    seed: int = setting(0, "random seed for the weights, the held-out texts and the batches", seed)
    float32: bool = setting(False, "matrix products in float32 (default: bfloat16)")

    def __post_init__(self):
        if self.n_embd % self.n_head:
            raise ValueError(f"--n-embd {self.n_embd} is not a multiple of --n-head {self.n_head}; change one")
        if self.warmup >= self.steps:
            raise ValueError(f"--warmup {self.warmup} must be below --steps {self.steps}")
