"""N-gram models of token ids: the yardstick beside which a neural model's bits per byte mean something.

Interpolated absolute discounting (Ney, Essen and Kneser 1994): from every count of a continuation
that was seen, a fixed amount is taken away and given to the next shorter context.

    p(w | c) = max(count(c w) - d, 0) / count(c)  +  d * kinds(c) / count(c) * p(w | c without its first token)

where kinds(c) is the number of different tokens seen after c; under the empty context lies 1 / V.
"""

from copy import copy

import numpy as np


class NGram:
    """Counts all runs of up to `order` tokens in `tokens` (N,), ids below `vocab_size`."""

    def __init__(self, tokens: np.ndarray, order: int, vocab_size: int, discount: float = 0.75):
        self.order, self.vocab_size, self.discount = order, vocab_size, discount
        self.tables = []
        for n in range(1, order + 1):
            grams, counts = np.unique(self.keys(tokens, n), return_counts=True)
            # Sorted, so the continuations of one context stand together.
            contexts, first = np.unique(grams // vocab_size, return_index=True)
            totals = np.add.reduceat(counts, first)
            kinds = np.diff(np.append(first, len(grams)))
            self.tables.append((grams, counts, contexts, totals, kinds))

    def shortened(self, order: int) -> "NGram":
        """The model of fewer tokens at a time that is part of this one."""
        shorter = copy(self)
        shorter.order, shorter.tables = order, self.tables[:order]
        return shorter

    def keys(self, tokens: np.ndarray, n: int) -> np.ndarray:
        """(N - n + 1,) one number for each run of n tokens: its digits to the base of the vocabulary's size."""
        tokens = tokens.astype(np.int64)
        key = np.zeros(len(tokens) - n + 1, dtype=np.int64)
        for i in range(n):
            key = key * self.vocab_size + tokens[i : i + len(key)]
        return key

    def probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """(N,) probability of every token given those before it, as many as there are and `order` allows."""
        p = np.full(len(tokens), 1 / self.vocab_size)
        for n, (grams, counts, contexts, totals, kinds) in enumerate(self.tables, start=1):
            key = self.keys(tokens, n)
            count = look_up(grams, counts, key)
            total = look_up(contexts, totals, key // self.vocab_size)
            kind = look_up(contexts, kinds, key // self.vocab_size)
            seen = total > 0  # after a context never seen, the shorter one's word stands
            shorter = p[n - 1 :]
            discounted = np.maximum(count - self.discount, 0) + self.discount * kind * shorter
            p[n - 1 :] = np.where(seen, discounted / np.maximum(total, 1), shorter)
        return p


def look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """`values` of the `wanted` among the sorted `keys`, 0 for those that are not there."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)
