"""Passages of the book that every model continues, and the continuations as the report shows them."""

import codecs

import numpy as np
import torch
from torch import Tensor

PROMPTS, PROMPT_TOKENS, CONTINUATION_TOKENS = 12, 32, 60
# Drawn from the likelier tokens, as texts for readers are; the texts for the ratio follow the exercise.
SHOWN_TEMPERATURE, SHOWN_TOP_K = 0.8, 40


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


def decode_pieces(tokenizer, tokens: list[int]) -> list[str]:
    """A string for each token. A character that is split over several tokens stands with the last of them."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    pieces = [decoder.decode(tokenizer.decode_single_token_bytes(token)) for token in tokens]
    pieces[-1] += decoder.decode(b"", final=True)
    return pieces
