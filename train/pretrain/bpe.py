"""Learning a byte-level BPE vocabulary (Sennrich et al. 2016; on bytes, Radford et al. 2019).

Start from the 256 bytes. Join the most frequent pair of neighbours in the corpus into a new token everywhere; repeat
until the vocabulary is full. Pairs do not cross the border of a word.

Two things make it fast. Each distinct word is kept once, with its count: 150 million characters have some 250 thousand
distinct words. And an index from pairs to words finds the words that a merge changes.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable

import regex

from data.tokenizer import WORD_PATTERN


def count_words(texts: Iterable[str]) -> Counter[bytes]:
    """How often each word, as UTF-8 bytes, occurs in `texts`."""
    pattern = regex.compile(WORD_PATTERN)  # Python's own re knows no \p{L}
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(pattern.findall(text))
    return Counter({word.encode("utf-8"): count for word, count in counts.items()})


def train_bpe(word_counts: Counter[bytes], vocab_size: int) -> list[tuple[bytes, bytes]]:
    """Learn the merges of a vocabulary of `vocab_size` tokens: 256 bytes, the merges, `<|endoftext|>`.

    Ties are broken by the smaller pair of byte strings, so that the result does not depend on the order of the texts.

    Returns:
        `vocab_size - 257` pairs of byte strings, in the order in which they were joined.
    """
    words = [[bytes([byte]) for byte in word] for word in word_counts]
    counts = list(word_counts.values())
    pair_counts: Counter[tuple[bytes, bytes]] = Counter()
    words_with = defaultdict(set)
    for i, word in enumerate(words):
        for pair in zip(word, word[1:]):
            pair_counts[pair] += counts[i]
            words_with[pair].add(i)
    # A heap of (-count, pair). A changed count is pushed again; an old entry is recognised by its wrong count.
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(heap)

    merges: list[tuple[bytes, bytes]] = []
    while len(merges) < vocab_size - 257:
        if not heap:
            raise ValueError(
                f"the texts give only {len(merges)} merges, {vocab_size - 257} were asked for; use more text"
            )
        negative_count, pair = heapq.heappop(heap)
        if pair_counts[pair] != -negative_count or not negative_count:
            continue
        merges.append(pair)
        changed = set()
        for i in words_with.pop(pair):
            before, after = words[i], join_pair(words[i], pair)
            for old in zip(before, before[1:]):
                pair_counts[old] -= counts[i]
                changed.add(old)
            for new in zip(after, after[1:]):
                pair_counts[new] += counts[i]
                words_with[new].add(i)
                changed.add(new)
            words[i] = after
        for touched in changed:
            if pair_counts[touched] > 0:
                heapq.heappush(heap, (-pair_counts[touched], touched))
    return merges


def join_pair(word: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    """`word` with every `pair` of neighbours joined, from the left."""
    joined, i = [], 0
    while i < len(word):
        if i + 1 < len(word) and (word[i], word[i + 1]) == pair:
            joined.append(word[i] + word[i + 1])
            i += 2
        else:
            joined.append(word[i])
            i += 1
    return joined
