"""What a model writes for the evaluation, and what it is then held against: the book and the base model.

Shape legend: S texts, N new tokens in each, B texts generated together, V vocabulary, P prompts, M tokens of a text.
"""

import argparse
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data.book import load_book
from evaluate.flags import sampling_of
from evaluate.measures.copying import SourceIndex
from evaluate.measures.style import letter_tokens, sampler_mass
from evaluate.ratio import Ratio, frequent_token_ratio
from evaluate.setup import Setup
from model.device import dtype_of
from model.gpt2 import GPT2
from model.sampling import cast_copy

PROMPTS, PROMPT_TOKENS, CONTINUATION_TOKENS = 12, 32, 60  # of the texts that are shown side by side
GENERAL_TEXTS = 64  # windows of `--general-text` that are read


@dataclass(frozen=True)
class Written:
    """What a model wrote from random start tokens, and how likely a frequent token was at each step."""

    ratio: Ratio
    masses: np.ndarray  # (S,) mean over the steps of each text

    @property
    def texts(self) -> Tensor:
        return self.ratio.tokens[:, 1:]  # (S, N)


@dataclass(frozen=True)
class Reference:
    """What every model of a sweep is held against; made once, with the base model."""

    setup: Setup
    base: GPT2  # the base model, in the dtype of the matrix products
    base_texts: Tensor  # (S, 1 + N) what it wrote, its start tokens first
    general_texts: Tensor | None  # (G, T) of `--general-text`
    index: SourceIndex  # of the text that is trained on
    letters: np.ndarray  # (V,) bool
    prompts: Tensor  # (P, T) pieces of the book whose continuations are shown side by side
    book_continuations: Tensor  # (P, T) how the book itself goes on after them
    book_texts: Tensor | None  # (S', N) the held-out text in pieces as long as what the models write


def write(setup: Setup, model: GPT2, args: argparse.Namespace, device: torch.device, title: str) -> Written:
    """Let `model` write as the flags in `args` say, with a progress bar. It is cast to the dtype of the flags."""
    mask = torch.zeros(setup.config.vocab_size, dtype=torch.bool)
    mask[setup.frequent] = True
    mask = mask.to(device)
    masses = []  # one (B,) for each step of each group

    def watch(logits: Tensor) -> None:
        masses.append(sampler_mass(logits, mask, args.temperature, args.top_k or None).cpu())

    with tqdm(total=args.eval_sequences * args.eval_tokens, desc=title, unit="token", leave=False) as progress:
        ratio = frequent_token_ratio(
            cast_copy(model, dtype_of(args.dtype, device)),
            setup.frequent,
            **sampling_of(args),
            banned=[setup.tokenizer.eot_token],
            device=device,
            watch=watch,
            after_token=progress.update,
        )
    groups = (masses[i : i + args.eval_tokens] for i in range(0, len(masses), args.eval_tokens))
    return Written(ratio, torch.cat([torch.stack(group).mean(0) for group in groups]).numpy())


def read_general_text(setup: Setup, args: argparse.Namespace) -> Tensor | None:
    """The first windows (G, T) of `--general-text`, None where none is named.

    Raises:
        ValueError, FileNotFoundError: it cannot be used.
    """
    if not args.general_text:
        return None
    tokens = torch.tensor(setup.tokenizer.encode_ordinary(load_book(args.general_text).text))
    windows = pieces(tokens, args.seq_len)[:GENERAL_TEXTS]
    if not len(windows) or args.seq_len < 2:
        raise ValueError(
            f"--general-text {args.general_text} has {len(tokens)} tokens, fewer than a window of --seq-len "
            f"{args.seq_len} (2 at least); use a longer text"
        )
    return windows


def open_reference(
    setup: Setup, base: GPT2, written: Written, general: Tensor | None, args: argparse.Namespace, device: torch.device
) -> Reference:
    """What the models after training will be held against.

    Args:
        base: the base model; `written` is what it wrote.
        general: from `read_general_text`.
    """
    prompts, continuations = pick_prompts(setup.held_out_tokens if setup.held_out else setup.tokens, setup.tokenizer)
    book_texts = pieces(setup.held_out_tokens, args.eval_tokens)
    return Reference(
        setup,
        cast_copy(base, dtype_of(args.dtype, device)),
        written.ratio.tokens.to(device),
        None if general is None else general.to(device),
        SourceIndex(setup.training_tokens),
        letter_tokens(setup.tokenizer, setup.config.vocab_size),
        prompts.to(device),
        continuations,
        book_texts if len(book_texts) else None,
    )


def pieces(tokens: Tensor, length: int) -> Tensor:
    """`tokens` (M,) cut into pieces of `length`, what is left over at the end left out: (M // length, length)."""
    return tokens[: len(tokens) // length * length].view(-1, length)


def pick_prompts(tokens: Tensor, tokenizer) -> tuple[Tensor, Tensor]:
    """PROMPTS pieces of `tokens` (M,), evenly spread, each from the beginning of a line if there are enough.

    Returns:
        (P, up to PROMPT_TOKENS) prompts, and (P, up to CONTINUATION_TOKENS) what follows each of them.
    """
    # Of a text that is too short for both, a third is the prompt.
    prompt = min(PROMPT_TOKENS, max(1, len(tokens) // 3))
    length = prompt + min(CONTINUATION_TOKENS, len(tokens) - prompt)
    last = len(tokens) - length
    ends = [tokenizer.decode_single_token_bytes(token).endswith(b"\n") for token in tokens[:last].tolist()]
    places = [i + 1 for i, end in enumerate(ends) if end]
    if len(places) < PROMPTS:
        places = list(range(last + 1))
    chosen = sorted({places[round(i)] for i in np.linspace(0, len(places) - 1, PROMPTS)})
    passages = torch.stack([tokens[place : place + length] for place in chosen])  # (P, length)
    return passages[:, :prompt], passages[:, prompt:]
