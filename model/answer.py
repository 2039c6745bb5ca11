"""A model's answer, shown as it is drawn."""

import codecs
import sys
from collections.abc import Iterator

import tiktoken
from torch import Tensor


def show(text: str) -> None:
    """Print `text` at once; on a terminal without the characters that would command it."""
    if sys.stdout.isatty():
        text = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    print(text, end="", flush=True)


def show_text(tokenizer: tiktoken.Encoding, prompt: str, steps: Iterator[tuple[Tensor, Tensor]]) -> None:
    """Show `prompt` and its continuation, token by token.

    Args:
        steps: from `generate`, for one row.
    """
    # A character may take several tokens: its first bytes wait for the others.
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    show(prompt)
    for drawn, _ in steps:
        show(decoder.decode(tokenizer.decode_single_token_bytes(drawn.item())))
    show(decoder.decode(b"", final=True) + "\n")
