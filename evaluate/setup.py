"""A model's folder, sizes and tokenizer, opened and checked."""

from pathlib import Path

import tiktoken

from data.tokenizer import load_tokenizer
from model.gpt2 import GPT2Config
from model.hub import model_folder
from model.pretrained import read_config
from model.speed.empty import empty_model

# A vocabulary may have rows beyond the tokenizer's: tokens that somebody added, or room up to a round number, which
# makes products faster. A larger difference is another model's tokenizer.
SPARE_ROWS = 1024


def open_model(model: str) -> tuple[Path, GPT2Config, tiktoken.Encoding]:
    """Folder, sizes and tokenizer of a model, which fit together. No weights are read yet.

    Raises:
        ValueError, FileNotFoundError, ConnectionError: with one line on what to do.
    """
    folder = model_folder(model)
    config, tokenizer = read_config(folder / "config.json"), load_tokenizer(folder)
    if not 0 <= config.vocab_size - tokenizer.n_vocab < SPARE_ROWS:
        raise ValueError(
            f"{folder}: config.json says {config.vocab_size} tokens, the tokenizer has {tokenizer.n_vocab}; "
            "take both from the same model"
        )
    return folder, config, tokenizer


def never_drawn(tokenizer: tiktoken.Encoding, config: GPT2Config) -> list[int]:
    """`<|endoftext|>`, after which another text would begin, and the rows of the vocabulary that stand for no text."""
    return [tokenizer.eot_token, *range(tokenizer.n_vocab, config.vocab_size)]


def parameter_count(config: GPT2Config) -> int:
    return sum(p.numel() for p in empty_model(config).parameters())
