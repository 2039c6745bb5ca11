"""Is this GPT-2? Compares the model with numbers that others published about it.

Shape legend: B windows a batch, T input tokens a window.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tiktoken import Encoding
from tqdm import tqdm

from data.download import cached_download
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
class Published:
    """What others published about a model; by default about GPT-2 124M."""

    sha256: str = HUB["gpt2"][2]  # of model.safetensors
    parameters: int = 124_439_808  # the tied head counted once
    # The test of GPT-2 in transformers: a prompt, and the same with its greedy continuation.
    prompt_tokens: tuple[int, ...] = (464, 3290)
    greedy_tokens: tuple[int, ...] = (
        *(464, 3290, 373, 1043, 287, 257, 2214, 1474, 262, 16246),
        *(286, 2688, 290, 2688, 27262, 13, 198, 198, 464, 3290),
    )
    # picoGPT's README: a prompt and its greedy continuation.
    prompt: str = "Alan Turing theorized that computers would one day become"
    continuation: str = " the most powerful machines on the planet."
    # The test of llm.c: PyTorch's losses on one batch before each AdamW step, and how much its C code may differ.
    batch_size: int = 4
    seq_len: int = 64
    batch_sha256: str = "0e6d4a3dc8e81638826e035e1660b685125c87d5fbe169b0a8b1d084dc2ed7a3"  # see `verify`
    lr: float = 1e-4
    weight_decay: float = 0.01
    losses: tuple[float, ...] = (
        *(5.270007, 4.059707, 3.375123, 2.800783, 2.315382),
        *(1.849029, 1.394656, 0.999147, 0.624080, 0.376511),
    )
    tolerance: float = 1e-2  # nats per token


GPT2_124M = Published()


@dataclass(frozen=True)
class Check:
    """A published value, and what was found here."""

    title: str
    expected: str
    found: str
    passed: bool

    def __str__(self) -> str:
        verdict = "ok" if self.passed else "FAILED"
        return f"{verdict:8}{self.title}\n        expected  {self.expected}\n        found     {self.found}"


def verify(
    folder: Path, model: GPT2, tokenizer: Encoding, batch: Sequence[int], expected: Published, dtype: torch.dtype
) -> Iterator[Check]:
    """Yield one check after the other, each as soon as it is done.

    Args:
        folder: where `model` was read from.
        model: float32, on the device to check; the last check trains it.
        batch: B T + 1 token ids, see `batch_tokens`.
        dtype: of the matrix products.
    """

    def equal(title: str, wanted: object, found: object, show=str) -> Check:
        return Check(title, show(wanted), show(found), wanted == found)

    yield equal("sha256 of model.safetensors", expected.sha256, file_sha256(*weight_files(folder)))
    yield equal("parameters", expected.parameters, sum(p.numel() for p in model.parameters()), "{:,}".format)

    writer = cast_copy(model, dtype)
    new_tokens = len(expected.greedy_tokens) - len(expected.prompt_tokens)
    found = continue_greedily(writer, expected.prompt_tokens, new_tokens)
    title = f"greedy continuation of tokens {' '.join(map(str, expected.prompt_tokens))} (transformers)"
    yield equal(title, [*expected.greedy_tokens], [*expected.prompt_tokens, *found])

    prompt, continuation = (tokenizer.encode_ordinary(text) for text in (expected.prompt, expected.continuation))
    found = tokenizer.decode(continue_greedily(writer, prompt, len(continuation)))
    yield equal(f"greedy continuation of {expected.prompt!r} (picoGPT)", expected.continuation, found, repr)

    found = hashlib.sha256(",".join(map(str, batch)).encode("ascii")).hexdigest()
    yield equal("sha256 of the batch's token ids (llm.c)", expected.batch_sha256, found)

    found = train_on(model, batch, expected, dtype)
    yield Check(
        f"losses of {len(found)} AdamW steps, each within {expected.tolerance:g} nats (llm.c)",
        " ".join(f"{loss:.6f}" for loss in expected.losses),
        " ".join(f"{loss:.6f}" for loss in found),
        all(abs(a - b) <= expected.tolerance for a, b in zip(found, expected.losses)),  # false for NaN
    )


def continue_greedily(model: GPT2, prompt: Sequence[int], new_tokens: int) -> list[int]:
    """The `new_tokens` token ids that follow `prompt`, the most likely one each time."""
    row = complete(model, torch.tensor([prompt], device=model.wte.weight.device), new_tokens, temperature=0)[0]
    return row[len(prompt) :].tolist()


def train_on(model: GPT2, batch: Sequence[int], expected: Published, dtype: torch.dtype) -> list[float]:
    """The losses, in nats per token, before each step on the same batch; trains `model` in place."""
    row = torch.tensor(batch, device=model.wte.weight.device)  # (B T + 1,)
    inputs, targets = (ids.view(expected.batch_size, expected.seq_len) for ids in (row[:-1], row[1:]))  # (B, T) each
    gradients = plain_gradients if dtype == torch.float32 else fast_gradients(dtype)
    optimizer = AdamW(model.parameters(), expected.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=expected.weight_decay)
    losses = []
    for _ in tqdm(expected.losses, desc="AdamW steps", unit="step", leave=False, disable=None):
        losses.append(gradients(model, inputs, targets))
        optimizer.step()
        optimizer.zero_grad()
    return losses


def batch_tokens(text: str, tokenizer: Encoding, count: int) -> list[int]:
    """The first `count` token ids of `text` as llm.c makes them: an end-of-text token before each section.

    Blank lines separate the sections. Each section is encoded by itself, with the two line ends after it.
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
    """Tiny Shakespeare with line ends LF: from `file`, or downloaded once and cached."""

    def fault(content: bytes) -> str:
        found = hashlib.sha256(content).hexdigest()
        return "" if found == SHAKESPEARE_SHA256 else f": its sha256 is {found}, not {SHAKESPEARE_SHA256}"

    if file is None:
        elsewhere = f"download {SHAKESPEARE_URL} elsewhere and name the file with --shakespeare FILE"
        file = cached_download("tinyshakespeare.txt", SHAKESPEARE_URL, "Tiny Shakespeare", fault, elsewhere)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {str(file)!r}; name Tiny Shakespeare with --shakespeare FILE")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 (byte {error.start}); fetch {SHAKESPEARE_URL} again") from None


def load_what_fits(folder: Path, expected: Published) -> tuple[GPT2, Encoding]:
    """Model and tokenizer of `folder`, if they are large enough for the checks."""
    _, config, tokenizer = open_model(folder)
    if config.vocab_size <= max(expected.prompt_tokens) or config.block_size < expected.seq_len:
        raise ValueError(
            f"{folder} is no GPT-2 124M: its vocabulary of {config.vocab_size} and context of {config.block_size} "
            "tokens are too small for the checks; name a folder with GPT-2's four files, or --model gpt2"
        )
    return load_pretrained(folder), tokenizer
