"""Did it memorise? What a model writes, held against the text that it was trained on, token by token.

Everything here but `extraction` follows from one question, which `SourceIndex.matches` answers: how long is
the longest piece of the source that begins at this place of the text?

Shape legend: S texts, N tokens in each, M tokens of the source, P prompts.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from data.generators import EXTRACTION, generator
from model.sampling import complete

LEAST = 13  # tokens. No run of 13 of GPT-2's in the last tenth of Gulliver's Travels stands in the rest
BY_THE_AUTHOR = 0.01  # share of the tokens: so much of it anybody may have in common with what he wrote before


class SourceIndex:
    """Finds any run of tokens in `source` (M,) at once. Build it once, for all texts.

    It is a suffix array (Manber and Myers 1993): the numbers of all places, in the alphabetical order of what
    follows there. All places where the same run begins stand next to each other, as words do in a dictionary.
    """

    def __init__(self, source: Tensor):
        source = np.asarray(source).astype(np.int64)
        M = len(source)
        self.tokens = np.append(source, -1)  # the end: below every token
        # The rank of a place by its first token; then by two tokens, 4, 8 ...: a pair of ranks holds twice as many.
        ranks, width = np.unique(source, return_inverse=True)[1], 1
        while ranks.max() < M - 1:  # places still share a rank
            following = np.zeros(M, dtype=np.int64)  # 0: the source is over
            following[:-width] = ranks[width:] + 1  # below M, as some share a rank
            ranks, width = np.unique(ranks * M + following, return_inverse=True)[1], 2 * width
        self.order = np.argsort(ranks)  # (M,)

    def first_not_below(self, tokens: np.ndarray, n: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """By bisection, where between `low` and `high` of the order the token after n others reaches `tokens`."""
        while (unsure := low < high).any():
            middle = (low + high) // 2
            # Those that are settled may stand beyond the end; what is read there for them is not used.
            place = np.minimum(self.order.take(middle, mode="clip") + n, len(self.order))
            below = unsure & (self.tokens[place] < tokens)
            low, high = np.where(below, middle + 1, low), np.where(below, high, middle)
        return low

    def matches(self, texts: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The longest run of the source that begins at each token of `texts` (S, N).

        Returns:
            its length in tokens, and the place in the source where it begins: (S, N) each. Where it stands in
            several places, one of them, always the same; where its length is 0, the place says nothing.
        """
        texts = np.asarray(texts).astype(np.int64)
        tokens = np.pad(texts, ((0, 0), (0, 1)), constant_values=-2).ravel()  # -2, found nowhere: the text is over
        begin = np.flatnonzero(tokens != -2)  # (S * N,)
        low, high, lengths = np.zeros_like(begin), np.full_like(begin, len(self.order)), np.zeros_like(begin)
        running, n = np.arange(len(begin)), 0  # those whose first n tokens were found: from low to high in the order
        while len(running):
            wanted = tokens[begin[running] + n]
            first = self.first_not_below(wanted, n, low[running], high[running])
            last = self.first_not_below(wanted + 1, n, first, high[running])
            found = first < last
            running, n = running[found], n + 1
            low[running], high[running], lengths[running] = first[found], last[found], n
        return lengths.reshape(texts.shape), self.order.take(low, mode="clip").reshape(texts.shape)


def least_copy(held_out: Tensor, index: SourceIndex) -> int:
    """From how many tokens on a run that stands in the source counts as a copy: `LEAST` or more, so many that in
    text by the source's own author, `held_out` (M',), at most `BY_THE_AUTHOR` of the tokens lie in such runs.

    A refrain, a table or a small vocabulary makes longer runs; in them a model may resemble its book without
    having learned it by heart.
    """
    if not len(held_out):
        return LEAST
    lengths, _ = index.matches(held_out[None])  # (1, M')
    more = range(LEAST, max(LEAST, lengths.max()) + 1)
    return LEAST + bisect_left(more, True, key=lambda least: covered(lengths, least).mean() <= BY_THE_AUTHOR)


def covered(lengths: np.ndarray, least: int) -> np.ndarray:
    """Which tokens lie in a run of at least `least`, if the longest from each on has `lengths` (S, N): (S, N) bool."""
    columns = np.arange(lengths.shape[1])
    ends = np.where(lengths >= least, columns + lengths, 0)  # (S, N)
    return np.maximum.accumulate(ends, axis=1) > columns


def copied_runs(text: Tensor, index: SourceIndex, least: int = LEAST) -> list[tuple[int, int, int]]:
    """The runs of at least `least` tokens that `text` (N,) has word for word from the source.

    Each is as long as it can be, to both sides. Two of them, from different places, may overlap.

    Returns:
        (start in the text, tokens, position in the source) of each, from left to right.
    """
    lengths, places = (row[0] for row in index.matches(np.asarray(text)[None]))  # (N,) each
    ends = np.arange(len(lengths)) + lengths
    # A run that ends where the one from the token before ended is only the rest of that one.
    begins = np.flatnonzero((lengths >= least) & (ends > np.append(0, ends[:-1])))
    return [(int(start), int(lengths[start]), int(places[start])) for start in begins]


def copied_share(texts: Tensor, index: SourceIndex, least: int = LEAST) -> np.ndarray:
    """The share of the tokens of each of `texts` (S, N) that are in a run of `copied_runs`: (S,)."""
    lengths, _ = index.matches(texts)  # (S, N)
    return covered(lengths, least).mean(axis=1)  # (S,)


def longest_copied(texts: Tensor, index: SourceIndex) -> tuple[int, int, int, int]:
    """The longest run of all `texts` (S, N) that stands in the source, however short; of equals the first.

    Returns:
        (number of the text, start in it, tokens, position in the source); 0 tokens if not one token stands there.
    """
    lengths, places = index.matches(texts)  # (S, N) each
    row, start = np.unravel_index(lengths.argmax(), lengths.shape)
    return int(row), int(start), int(lengths[row, start]), int(places[row, start])


def novelty(texts: Tensor, index: SourceIndex, orders: Iterable[int] = range(1, 11)) -> list[float]:
    """For each n of `orders`, the share of the runs of n tokens in `texts` (S, N) that do not stand in the source.

    Every run counts as often as it occurs; none goes from one text to the next. (McCoy et al. 2023, "How Much
    Do Language Models Copy From Their Training Data? Evaluating Linguistic Novelty in Text Generation Using
    RAVEN".) What the source's own author writes elsewhere is the yardstick, not 1.

    Returns:
        one share for each n; an n above N is left out, as no text has such a run.
    """
    lengths, _ = index.matches(texts)  # (S, N)
    N = lengths.shape[1]
    return [float((lengths[:, : N - n + 1] < n).mean()) for n in orders if n <= N]


def extraction(
    model: Callable[[Tensor], Tensor],
    tokens: Tensor,
    *,
    prompts: int = 32,
    prompt_tokens: int = 50,
    new_tokens: int = 50,
    seed: int = 0,
    banned: Sequence[int] = (),
) -> np.ndarray:
    """Shown a piece of a text, how much of what comes next does `model` say of its own accord?

    From random places of `tokens` (M,) it reads `prompt_tokens` and continues them greedily by `new_tokens`.
    Counted is the share of these that are the text's own token at the same place (cf. Carlini et al. 2023,
    "Quantifying Memorization Across Neural Language Models", who count those that are right throughout).
    Grammar alone gets some right: what text that was never seen reaches is the yardstick, not 0.

    Args:
        model: maps token ids (B, T) to logits (B, T, V). A `GPT2` whose context is shorter than prompt and
            continuation sees the last tokens that it has room for (see `generate`).
        tokens: on the model's device.
        prompts: how many; fewer if there are not so many places, since no place is taken twice.
        banned: ids that are never written.

    Returns:
        (P,) shares, float64; none if `tokens` is too short for one prompt and its continuation.
    """
    length = prompt_tokens + new_tokens
    places = max(0, len(tokens) - length + 1)
    starts = generator(EXTRACTION, seed).choice(places, size=min(prompts, places), replace=False)
    if not len(starts):
        return np.zeros(0)
    passages = torch.stack([tokens[start : start + length] for start in starts])  # (P, length)
    written = complete(model, passages[:, :prompt_tokens], new_tokens, temperature=0, banned=banned)  # (P, length)
    return (written == passages)[:, prompt_tokens:].cpu().double().mean(1).numpy()  # (P,)
