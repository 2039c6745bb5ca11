"""The ratio of a model as the commands measure it: with their flags, in their dtype, with a progress bar."""

import argparse

import torch
from tqdm import tqdm

from evaluate.cli import dtype_of, sampling_of
from evaluate.ratio import Ratio, frequent_token_ratio
from evaluate.setup import Setup
from model.gpt2 import GPT2
from model.sampling import cast_copy


def measure_ratio(setup: Setup, model: GPT2, args: argparse.Namespace, device: torch.device, title: str) -> Ratio:
    """The frequent-token ratio of `model`, which is on `device`, by the book of `setup` and the flags in `args`."""
    with tqdm(total=args.eval_sequences * args.eval_tokens, desc=title, unit="token", leave=False) as progress:
        return frequent_token_ratio(
            cast_copy(model, dtype_of(args.dtype, device)),
            setup.frequent,
            **sampling_of(args),
            banned=[setup.tokenizer.eot_token],
            device=device,
            after_token=progress.update,
        )
