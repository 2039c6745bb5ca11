"""A model's answer, shown as it is drawn."""

import codecs
import sys
from collections.abc import Callable

import tiktoken
import torch
from torch import Tensor

from model.gpt2 import GPT2


def show(text: str) -> None:
    """Print `text` at once; on a terminal without the characters that would command it."""
    if sys.stdout.isatty():
        text = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    print(text, end="", flush=True)


def go_on(model: GPT2, tokenizer: tiktoken.Encoding, prompt: str, row: int, write: Callable[..., Tensor]) -> None:
    """Show `prompt` and what `model` makes of it, as it is drawn.

    Args:
        row: number of the text; its luck.
        write: `generate` with its settings.
    """
    ids = tokenizer.encode_ordinary(prompt) or [tokenizer.eot_token]  # a text begins where another one has ended
    # A character may take several tokens: its first bytes wait for the others.
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    show(prompt)
    write(
        model,
        torch.tensor([ids], device=model.wte.weight.device),
        first_row=row,
        after_token=lambda drawn: show(decoder.decode(tokenizer.decode_single_token_bytes(drawn.item()))),
    )
    show(decoder.decode(b"", final=True) + "\n")
