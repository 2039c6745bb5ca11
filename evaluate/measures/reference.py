"""What a model writes for the evaluation, and what it is then held against: the book and the base model.

Shape legend: S texts, N new tokens in each, B texts generated together, V vocabulary, P prompts, M tokens of a text.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data.settings import Sampling
from evaluate.measures.copying import SourceIndex, least_copy
from evaluate.measures.style import letter_tokens, sampler_mass
from evaluate.ratio import Ratio, ratio_of, write_groups
from evaluate.setup import Setup
from model.device import Machine, exact_on
from model.gpt2 import GPT2
from model.sampling import cast_copy

PROMPTS, PROMPT_TOKENS, CONTINUATION_TOKENS = 12, 32, 60  # of the texts that are shown side by side
# They are drawn from the likelier tokens, as texts for readers are; those that are counted follow the exercise.
SHOWN_TEMPERATURE, SHOWN_TOP_K = 0.8, 40
BOOK_TEXTS = 256  # pieces of the held-out text that are measured as the models' texts are
GENERAL_TEXTS = 64  # windows of `--general-text` that are read


@dataclass(frozen=True)
class Written:
    """What a model wrote from random start tokens, and how likely a frequent token was at each step."""

    ratio: Ratio
    masses: np.ndarray  # (S,) mean over the steps of each text
    untruncated: np.ndarray  # (S,) the same of the model's own probabilities: temperature 1, no top-k

    @property
    def texts(self) -> Tensor:
        return self.ratio.tokens[:, 1:]  # (S, N)


@dataclass(frozen=True)
class Reference:
    """What every model of a sweep is held against; made once, with the base model."""

    setup: Setup
    sampling: Sampling  # of the texts for the ratio
    seq_len: int  # window of the losses over texts, in tokens
    machine: Machine
    base: GPT2  # the base model, in the dtype of the matrix products
    base_texts: Tensor  # (S, 1 + N) what it wrote, its start tokens first
    general_texts: Tensor | None  # (G, T) of `--general-text`
    index: SourceIndex  # of the text that is trained on
    least: int  # tokens of a copied run
    letters: np.ndarray  # (V,) bool
    prompts: Tensor  # (P, T) pieces of the book whose continuations are shown side by side
    book_continuations: Tensor  # (P, T) how the book itself goes on after them
    book_texts: Tensor | None  # (S', N) the held-out text in pieces as long as what the models write


def write(setup: Setup, model: GPT2, sampling: Sampling, machine: Machine, title: str) -> Written:
    """Let `model` write from random tokens, with a progress bar. It is cast to the machine's dtype."""
    mask = torch.zeros(setup.config.vocab_size, dtype=torch.bool)
    mask[setup.frequent] = True
    mask = mask.to(exact_on(machine.device))
    truncated = sampling.top_k != 0 or sampling.temperature != 1

    def frequent_masses(logits: Tensor) -> Tensor:
        """(B, 2): as the sampler draws, and untruncated."""
        logits = logits.to(mask.device)
        untruncated = sampler_mass(logits, mask)  # (B,)
        mass = sampler_mass(logits, mask, sampling.temperature, sampling.top_k or None) if truncated else untruncated
        return torch.stack([mass, untruncated], -1)

    groups = write_groups(
        cast_copy(model, machine.dtype),
        sampling,
        vocab_size=setup.tokenizer.n_vocab,
        banned=setup.banned,
        device=machine.device,
    )
    texts, masses = [], []
    total = sampling.sequences * sampling.new_tokens
    with tqdm(total=total, desc=title, unit="token", leave=False, disable=None) as progress:
        for starts, steps in groups:
            columns, group_masses = [starts[:, 0]], []
            for drawn, logits in steps:
                columns.append(drawn)
                group_masses.append(frequent_masses(logits))
                progress.update(len(drawn))
            texts.append(torch.stack(columns, dim=1).cpu())  # (B, 1 + N)
            masses.append(torch.stack(group_masses).mean(0))  # (B, 2)
    ratio = ratio_of(torch.cat(texts), setup.frequent, sampling.seed)
    return Written(ratio, *torch.cat(masses).T.cpu().numpy())


def general_windows(setup: Setup, seq_len: int) -> Tensor | None:
    """The first windows (G, T) of the general text, None where there is none.

    Raises:
        ValueError: it is too short.
    """
    if setup.general is None:
        return None
    tokens = torch.tensor(setup.tokenizer.encode_ordinary(setup.general.text))
    windows = pieces(tokens, seq_len)[:GENERAL_TEXTS]
    if not len(windows) or seq_len < 2:
        raise ValueError(
            f"--general-text {setup.asked['general_text']} has {len(tokens)} tokens, fewer than a window of --seq-len "
            f"{seq_len} (2 at least); use a longer text"
        )
    return windows


def open_reference(
    setup: Setup, base: GPT2, written: Written, sampling: Sampling, seq_len: int, machine: Machine
) -> Reference:
    """What the models after training will be held against.

    Args:
        base: the base model; `written` is what it wrote.
        seq_len: window of the losses over texts, in tokens.
    """
    prompts, continuations = pick_prompts(setup.held_out_tokens if setup.held_out else setup.tokens, setup.tokenizer)
    book_texts = pieces(setup.held_out_tokens, sampling.new_tokens)[:BOOK_TEXTS]
    general, index = general_windows(setup, seq_len), SourceIndex(setup.training_tokens)
    return Reference(
        setup=setup,
        sampling=sampling,
        seq_len=seq_len,
        machine=machine,
        base=cast_copy(base, machine.dtype),
        base_texts=written.ratio.tokens.to(machine.device),
        general_texts=None if general is None else general.to(machine.device),
        index=index,
        least=least_copy(setup.held_out_tokens, index),
        letters=letter_tokens(setup.tokenizer, setup.config.vocab_size),
        prompts=prompts.to(machine.device),
        book_continuations=continuations,
        book_texts=book_texts if len(book_texts) else None,
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
