"""Is this GPT-2? What others published about it, found again on this machine.

python -m train.verify

Shape legend: B windows a batch, T input tokens a window.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from data.download import cache_folder, cached_download
from model.gpt2 import GPT2
from model.hub import HUB, file_sha256, weight_files
from model.pretrained import load_pretrained, open_model
from model.sampling import cast_copy, complete
from train.adamw import AdamW
from train.loop import plain_gradients
from train.speed.step import fast_gradients

SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


@dataclass(frozen=True)
class Expected:
    """What is known of a model; `official` has what is known of GPT-2 124M."""

    sha256: str  # of model.safetensors
    parameters: int  # the tied head counted once
    prompt_tokens: tuple[int, ...]
    greedy_tokens: tuple[int, ...]  # the prompt and its greedy continuation
    prompt: str
    continuation: str  # greedy
    batch_size: int
    seq_len: int
    batch_sha256: str  # of the B T + 1 token ids, decimal, joined by commas
    lr: float
    weight_decay: float
    losses: tuple[float, ...]  # nats per token, before each of so many steps on the one batch
    tolerance: float  # nats per token


def official() -> Expected:
    """GPT-2 124M as OpenAI published it, in the words of others who ran it."""
    return Expected(
        sha256=HUB["gpt2"][2],
        parameters=124_439_808,
        # transformers' own test of its GPT-2.
        prompt_tokens=(464, 3290),
        greedy_tokens=(
            *(464, 3290, 373, 1043, 287, 257, 2214, 1474, 262, 16246),
            *(286, 2688, 290, 2688, 27262, 13, 198, 198, 464, 3290),
        ),
        # picoGPT's README.
        prompt="Alan Turing theorized that computers would one day become",
        continuation=" the most powerful machines on the planet.",
        # llm.c's test: PyTorch's losses, and how far off its C code may be.
        batch_size=4,
        seq_len=64,
        batch_sha256="0e6d4a3dc8e81638826e035e1660b685125c87d5fbe169b0a8b1d084dc2ed7a3",
        lr=1e-4,
        weight_decay=0.01,
        losses=(5.270007, 4.059707, 3.375123, 2.800783, 2.315382, 1.849029, 1.394656, 0.999147, 0.624080, 0.376511),
        tolerance=1e-2,
    )


@dataclass(frozen=True)
class Check:
    """One thing that is known, and what was found here."""

    title: str
    expected: str
    found: str
    passed: bool

    def __str__(self) -> str:
        verdict = "ok" if self.passed else "FAILED"
        return f"{verdict:8}{self.title}\n        expected  {self.expected}\n        found     {self.found}"


def verify(
    folder: Path, model: GPT2, tokenizer, batch: Sequence[int], expected: Expected, dtype: torch.dtype
) -> Iterator[Check]:
    """Check after check, each as soon as it is done.

    Args:
        folder: where `model` was read from.
        model: float32, on the device that is to be tried; trained by the last check.
        batch: B T + 1 token ids, what llm.c trains on.
        dtype: of the matrix products.
    """

    def equal(title: str, wanted: object, found: object, show=str) -> Check:
        return Check(title, show(wanted), show(found), wanted == found)

    found = file_sha256(*weight_files(folder))
    yield equal("sha256 of model.safetensors", expected.sha256, found)

    found = sum(p.numel() for p in model.parameters())
    yield equal("parameters", expected.parameters, found, "{:,}".format)

    writer = cast_copy(model, dtype)
    new_tokens = len(expected.greedy_tokens) - len(expected.prompt_tokens)
    found = continue_greedily(writer, expected.prompt_tokens, new_tokens)
    title = f"greedy continuation of tokens {' '.join(map(str, expected.prompt_tokens))} (transformers)"
    yield equal(title, [*expected.greedy_tokens], [*expected.prompt_tokens, *found])

    prompt = tokenizer.encode_ordinary(expected.prompt)
    found = tokenizer.decode(continue_greedily(writer, prompt, len(tokenizer.encode_ordinary(expected.continuation))))
    yield equal(f"greedy continuation of {expected.prompt!r} (picoGPT)", expected.continuation, found, repr)

    found = hashlib.sha256(",".join(map(str, batch)).encode("ascii")).hexdigest()
    yield equal("sha256 of the batch's token ids (llm.c)", expected.batch_sha256, found)

    row = torch.tensor(batch, device=model.wte.weight.device)  # (B T + 1,)
    inputs, targets = (ids.view(expected.batch_size, expected.seq_len) for ids in (row[:-1], row[1:]))  # (B, T) each
    found = train_on(model, inputs, targets, len(expected.losses), expected.lr, expected.weight_decay, dtype)
    apart = [abs(a - b) for a, b in zip(found, expected.losses, strict=True)]
    yield Check(
        f"losses of {len(found)} AdamW steps, each within {expected.tolerance:g} nats (llm.c)",
        " ".join(f"{loss:.6f}" for loss in expected.losses),
        " ".join(f"{loss:.6f}" for loss in found),
        all(difference <= expected.tolerance for difference in apart),  # no NaN is
    )


def continue_greedily(model: GPT2, prompt: Sequence[int], new_tokens: int) -> list[int]:
    """The `new_tokens` token ids that follow `prompt`, the most likely one each time."""
    row = complete(model, torch.tensor([prompt], device=model.wte.weight.device), new_tokens, temperature=0)[0]
    return row[len(prompt) :].tolist()


def train_on(
    model: GPT2, inputs: Tensor, targets: Tensor, steps: int, lr: float, weight_decay: float, dtype: torch.dtype
) -> list[float]:
    """The losses, in nats per token, before each of `steps` steps on the same batch; `model` is trained in place."""
    gradients = plain_gradients if dtype == torch.float32 else fast_gradients(dtype)
    optimizer = AdamW(model.parameters(), lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay)
    losses = []
    for _ in tqdm(range(steps), desc="AdamW steps", unit="step", leave=False, disable=None):
        losses.append(gradients(model, inputs, targets))
        optimizer.step()
        optimizer.zero_grad()
    return losses


def batch_tokens(text: str, tokenizer, count: int) -> list[int]:
    """The first `count` token ids of `text` as llm.c makes them: the end of text before each section.

    Sections lie between blank lines. Each keeps the two line ends after it and is encoded apart.

    Raises:
        ValueError: the text is too short.
    """
    ids = []
    for section in text.split("\n\n"):
        ids += [tokenizer.eot_token, *tokenizer.encode_ordinary(section + "\n\n")]
        if len(ids) >= count:
            return ids[:count]
    raise ValueError(
        f"the text has {len(ids)} tokens, the batch needs {count}; name Tiny Shakespeare with --shakespeare FILE"
    )


def read_shakespeare(file: Path | None) -> str:
    """Tiny Shakespeare: from `file`, else from the cache or, the first time, from the network; line ends LF.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: with one line on what to do.
    """
    if file is None:
        file = cached_shakespeare(cache_folder())
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {str(file)!r}; name Tiny Shakespeare with --shakespeare FILE")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 (byte {error.start}); fetch {SHAKESPEARE_URL} again") from None


def cached_shakespeare(cache: Path, url: str = SHAKESPEARE_URL, sha256: str = SHAKESPEARE_SHA256) -> Path:
    """The downloaded text below `cache`; one plain request if it is not there yet.

    Raises:
        ConnectionError: not in the cache, and cannot be fetched.
        ValueError: what came has another sha256.
    """

    def fault(content: bytes) -> str:
        found = hashlib.sha256(content).hexdigest()
        return "" if found == sha256 else f": its sha256 is {found}, not {sha256}"

    elsewhere = f"download {url} elsewhere and name the file with --shakespeare FILE"
    return cached_download(cache / "tinyshakespeare.txt", url, "Tiny Shakespeare", fault, elsewhere)


def load_what_fits(folder: Path, expected: Expected) -> tuple[GPT2, object]:
    """Model and tokenizer of `folder`, large enough for the checks to be run at all.

    Raises:
        ValueError, FileNotFoundError: with one line on what to do.
    """
    _, config, tokenizer = open_model(folder)
    if config.vocab_size <= max(expected.prompt_tokens) or config.block_size < expected.seq_len:
        raise ValueError(
            f"{folder} is no GPT-2 124M: its vocabulary of {config.vocab_size} and context of {config.block_size} "
            "tokens are too small for the checks; name a folder with GPT-2's four files, or --model gpt2"
        )
    return load_pretrained(folder), tokenizer
