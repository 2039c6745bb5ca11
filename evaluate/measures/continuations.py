"""Passages of the book that every model continues, and the continuations as the report shows them."""

import codecs
from itertools import accumulate, product

import numpy as np
import torch
from torch import Tensor

PROMPTS, PROMPT_TOKENS, CONTINUATION_TOKENS = 12, 32, 60
# Drawn from the likelier tokens, as texts for readers are; the texts for the ratio follow the exercise.
SHOWN_TEMPERATURE, SHOWN_TOP_K = 0.8, 40
CHARACTER, WORD, LINE = 1, 2, 3  # borders of tokens; each is one of those before it too


def pick_prompts(tokens: Tensor, tokenizer) -> tuple[Tensor, Tensor]:
    """PROMPTS pieces of `tokens` (M,), evenly spread. If there are enough, each begins a line and ends with a word; of
    a short text or another script at least no character is cut, where that is possible.

    Returns:
        (P, up to PROMPT_TOKENS) prompts, and (P, up to CONTINUATION_TOKENS) what follows each of them.
    """
    # Of a text that is too short for both, a third is the prompt.
    longest = min(PROMPT_TOKENS, max(1, len(tokens) // 3))
    whole = longest + min(CONTINUATION_TOKENS, len(tokens) - longest)
    kinds = np.array(borders(tokenizer, tokens.tolist()))
    # All prompts have one length. If all characters have three tokens, 32 of them are never whole, but 30 may be.
    lengths = [(p, n) for n in range(whole, whole - 4, -1) for p in range(longest, longest - 4, -1) if 0 < p < n]
    wanted = ((LINE, WORD), (WORD, WORD), (LINE, CHARACTER), (WORD, CHARACTER), (CHARACTER, CHARACTER))
    for (first, last), (prompt, length) in product(wanted, lengths):
        begin, cut, end = (kinds[shift : len(tokens) - length + 1 + shift] for shift in (0, prompt, length))
        places = np.flatnonzero((begin >= first) & (cut >= last) & (end >= CHARACTER))
        if len(places) >= PROMPTS:
            break
    else:  # few places are good, or none
        places = places if len(places) else np.arange(len(begin))
    chosen = sorted({int(places[round(i)]) for i in np.linspace(0, len(places) - 1, PROMPTS)})
    passages = torch.stack([tokens[place : place + length] for place in chosen])  # (P, length)
    return passages[:, :prompt], passages[:, prompt:]


def borders(tokenizer, tokens: list[int]) -> list[int]:
    """What lies before each of `tokens` and behind the last: LINE, WORD, CHARACTER, or 0 for a border inside one."""
    pieces = decode_pieces(tokenizer, tokens)
    text, places = "".join(pieces), accumulate(map(len, pieces), initial=0)
    begins = [*(tokenizer.decode_single_token_bytes(token)[0] for token in tokens), 0]  # bytes
    sides = [(text[max(0, place - 1) : place], text[place : place + 1]) for place in places]
    # What comes before the first is not known: a text may begin inside a word.
    kinds = [LINE if a == "\n" else CHARACTER if not a or a.isalnum() and b.isalnum() else WORD for a, b in sides]
    return [0 if 0x80 <= byte < 0xC0 else kind for byte, kind in zip(begins, kinds)]


def decode_pieces(tokenizer, tokens: list[int]) -> list[str]:
    """A string for each token. A character that is split over several tokens stands with the last of them; one that is
    cut off at the end is left out."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    return [decoder.decode(tokenizer.decode_single_token_bytes(token)) for token in tokens]


def decode_whole(tokenizer, tokens: list[int]) -> str:
    """The text of `tokens` without half a character at either end."""
    content = tokenizer.decode_bytes(tokens).lstrip(bytes(range(0x80, 0xC0)))
    return codecs.getincrementaldecoder("utf-8")(errors="replace").decode(content)


def is_wrapped(text: str) -> bool:
    """Whether most lines have 55 to 80 characters: prose that was broken to fit a page. Verse and code are not."""
    lengths = [len(line) for line in text.splitlines() if line.strip()]
    return sum(55 <= length <= 80 for length in lengths) > len(lengths) / 2
