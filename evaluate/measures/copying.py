"""Did it memorise? What a model writes beside the text that it was trained on, token by token.

Everything here but `extraction` follows from `SourceIndex.matches`: how long is the longest run of tokens that begins
at this place of the text and stands somewhere in the source?

Shape legend: S texts, N tokens in each, M tokens of the source, P prompts.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from data.generators import EXTRACTION, generator
from model.sampling import complete

MIN_LENGTH = 13  # tokens; no run of 13 of GPT-2's in the last tenth of Gulliver's Travels stands in the rest
BY_THE_AUTHOR = 0.01  # share of tokens in runs that an author may repeat from the rest of the book


class SourceIndex:
    """Finds any run of tokens in `source` (M,). Build it once, for all texts.

    It is a suffix array (Manber and Myers 1993): the numbers of all places, in the alphabetical order of what
    follows there. All places where the same run begins are neighbours, as words are in a dictionary. It is built by
    doubling: a run of 2 w tokens is a pair of runs of w, and the ranks of the two give its rank. The index keeps the
    ranks of all widths: with them it finds a long match in steps of 2^k tokens, not token by token.
    """

    def __init__(self, source: Tensor):
        source = np.asarray(source).astype(np.int64)
        self.M = M = len(source)
        known, ranks = np.unique(source, return_inverse=True)
        self.levels = [(known, ranks)]  # of width 1, 2, 4 ...: what has a rank, and the rank of each place
        while ranks.max() < M - 1:  # places still share a rank
            known, ranks = np.unique(self.pairs(ranks, 2 ** (len(self.levels) - 1)), return_inverse=True)
            self.levels.append((known, ranks))
        self.order = np.argsort(ranks)  # (M,)

    def pairs(self, ranks: np.ndarray, width: int) -> np.ndarray:
        """One number for each place: its rank, and the rank of the place `width` tokens on; -1 where that is none."""
        M, behind = self.M, np.full(len(ranks), -1)
        behind[:-width] = ranks[width:]
        return np.where(ranks < 0, -1, ranks * (M + 1) + behind + 1)

    def lower_bound(self, ranks: np.ndarray, wanted: np.ndarray, shift: np.ndarray, low: np.ndarray, high: np.ndarray):
        """Bisect the order from `low` to `high`: the first place that has, `shift` tokens on, at least `wanted` of
        `ranks`."""
        while (unsure := low < high).any():
            middle = (low + high) // 2
            place = self.order.take(middle, mode="clip") + shift  # of a finished search it is not used
            below = unsure & ((place >= self.M) | (ranks.take(place, mode="clip") < wanted))
            low, high = np.where(below, middle + 1, low), np.where(below, high, middle)
        return low

    def matches(self, texts: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The longest run of the source that begins at each token of `texts` (S, N).

        Returns:
            its length in tokens, and the place in the source where it begins: (S, N) each. Of several places
            always the same one; if the length is 0, the place means nothing.
        """
        texts = np.asarray(texts).astype(np.int64)
        tokens = np.pad(texts, ((0, 0), (0, 1)), constant_values=-2).ravel()  # -2, found nowhere: the text is over
        ranks, last, found = find(self.levels[0][0], tokens), self.levels[-1][1], []
        while (ranks >= 0).any():  # the run of 2^k tokens at each place of the texts: its rank in the source, or -1
            found.append((self.levels[min(len(found), len(self.levels) - 1)][1], ranks))
            k, width = len(found), 2 ** (len(found) - 1)
            if k < len(self.levels):
                pairs = self.pairs(ranks, width)
                ranks = np.where(pairs % (self.M + 1) == 0, -1, find(self.levels[k][0], pairs))
            else:  # each place has a rank of its own: both halves must be at one place
                place = self.order[ranks] + width
                behind = np.append(ranks[width:], np.full(min(width, len(ranks)), -1))
                same = (ranks >= 0) & (place < self.M) & (last.take(place, mode="clip") == behind)
                ranks = np.where(same, ranks, -1)
        begin = np.flatnonzero(tokens != -2)  # (S * N,)
        low, high, lengths = np.zeros_like(begin), np.full_like(begin, self.M), np.zeros_like(begin)
        for k, (of_source, of_texts) in reversed([*enumerate(found)]):
            wanted = of_texts.take(begin + lengths, mode="clip")
            run = np.flatnonzero(wanted >= 0)
            shift, ends = lengths[run], (low[run], high[run])
            first = self.lower_bound(of_source, wanted[run], shift, *ends)
            behind = self.lower_bound(of_source, wanted[run] + 1, shift, first, ends[1])
            run, first, behind = (values[first < behind] for values in (run, first, behind))
            low[run], high[run], lengths[run] = first, behind, lengths[run] + 2**k
        return lengths.reshape(texts.shape), self.order.take(low, mode="clip").reshape(texts.shape)


def find(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The place of each of `wanted` in `known`, which is sorted; -1 where it is not."""
    place = np.searchsorted(known, wanted)
    return np.where(known.take(place, mode="clip") == wanted, place, -1)


def min_copy_length(held_out: Tensor, index: SourceIndex) -> int:
    """The number of tokens from which on a run that stands in the source counts as a copy.

    It is `MIN_LENGTH`, or more if a share over `BY_THE_AUTHOR` of `held_out` (M',), text by the source's own author,
    lies in such runs: a refrain, a table or a small vocabulary makes longer runs, without anything learned by heart.
    """
    if not len(held_out):
        return MIN_LENGTH
    lengths, _ = index.matches(held_out[None])  # (1, M')
    more = range(MIN_LENGTH, max(MIN_LENGTH, lengths.max()) + 1)
    return MIN_LENGTH + bisect_left(more, True, key=lambda n: in_long_match(lengths, n).mean() <= BY_THE_AUTHOR)


def in_long_match(lengths: np.ndarray, n: int) -> np.ndarray:
    """Which tokens lie in a run of at least `n`, (S, N) bool; `lengths` (S, N): the longest run beginning at each."""
    columns = np.arange(lengths.shape[1])
    ends = np.where(lengths >= n, columns + lengths, 0)  # (S, N)
    return np.maximum.accumulate(ends, axis=1) > columns


def copied_runs(text: Tensor, index: SourceIndex, min_length: int = MIN_LENGTH) -> list[tuple[int, int, int]]:
    """The runs of at least `min_length` tokens that `text` (N,) has word for word from the source.

    Each is as long as possible on both sides. Two of them, from different places, may overlap.

    Returns:
        (start in the text, tokens, position in the source) of each, from left to right.
    """
    lengths, places = (row[0] for row in index.matches(np.asarray(text)[None]))  # (N,) each
    ends = np.arange(len(lengths)) + lengths
    # A run that ends where the one from the token before ended is only the rest of that one.
    begins = np.flatnonzero((lengths >= min_length) & (ends > np.append(0, ends[:-1])))
    return [(int(start), int(lengths[start]), int(places[start])) for start in begins]


def copied_share(texts: Tensor, index: SourceIndex, min_length: int = MIN_LENGTH) -> np.ndarray:
    """The share of the tokens of each of `texts` (S, N) that are in a run of `copied_runs`: (S,)."""
    lengths, _ = index.matches(texts)  # (S, N)
    return in_long_match(lengths, min_length).mean(axis=1)  # (S,)


def longest_copied(lengths: np.ndarray, places: np.ndarray) -> tuple[int, int, int, int]:
    """The longest of all `matches` (S, N each) of some texts, however short; ties go to the first.

    Returns:
        (number of the text, start in it, tokens, position in the source); 0 tokens if not one token stands there.
    """
    row, start = np.unravel_index(lengths.argmax(), lengths.shape)
    return int(row), int(start), int(lengths[row, start]), int(places[row, start])


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
    """After a prompt from a text, how much of the text's continuation does `model` reproduce?

    At random places of `tokens` (M,) it reads `prompt_tokens` and continues them greedily by `new_tokens`. The result
    is the share of these that are the text's own token at the same place (cf. Carlini et al. 2023, "Quantifying
    Memorization Across Neural Language Models", who count the continuations that are right throughout). Grammar alone
    gets some right: compare with a text that the model has never seen, not with 0.

    Args:
        model: maps token ids (B, T) to logits (B, T, V). A `GPT2` whose context is shorter than prompt and
            continuation sees the last tokens that it has room for (see `generate`).
        tokens: on the model's device.
        prompts: their number; fewer if `tokens` has fewer places, since no place is taken twice.
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
