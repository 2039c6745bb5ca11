"""Copying: against plain search of every piece in every place, and models that are nothing but the book."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evaluate.measures.copying import (
    SourceIndex,
    copied_runs,
    copied_share,
    extraction,
    in_long_match,
    longest_copied,
    min_copy_length,
)
from model.gpt2 import GPT2, GPT2Config
from model.sampling import complete


def stands_in(piece: list[int], source: list[int]) -> bool:
    return any(source[i : i + len(piece)] == piece for i in range(len(source) - len(piece) + 1))


def longest_from(text: list[int], start: int, source: list[int]) -> int:
    return max(n for n in range(len(text) - start + 1) if n == 0 or stands_in(text[start : start + n], source))


# Few kinds of token: every run stands in many places, of different lengths. One source is all the same.
@pytest.fixture(params=[(2, 0), (3, 1), (30, 2), (1, 3)])
def source_and_texts(request):
    kinds, seed = request.param
    rng = np.random.default_rng(seed)
    source = rng.integers(kinds, size=150)
    texts = rng.integers(kinds + 1, size=(6, 25))  # one kind of token is not in the source
    texts[0, 3:20] = source[-17:]  # a run up to the very end of the source
    texts[1, -9:] = source[:9]
    return source, texts


def test_matches_against_plain_search(source_and_texts):
    source, texts = source_and_texts
    lengths, places = SourceIndex(source).matches(texts)
    for row, text in enumerate(texts.tolist()):
        assert lengths[row].tolist() == [longest_from(text, start, source.tolist()) for start in range(25)]
        for start, (n, place) in enumerate(zip(lengths[row], places[row])):
            assert text[start : start + n] == source[place : place + n].tolist()


@pytest.mark.parametrize("source", [[1, 9, 1, 5, 2], [4], [4, 4], [3, 1, 3, 1, 3]])
def test_every_piece_of_a_short_source_is_found(source):
    index = SourceIndex(source)
    for start in range(len(source)):
        lengths, places = index.matches([[*source[start:], 0]])
        rest = range(len(source) - start, -1, -1)  # what is left of the source from each place on
        assert lengths[0].tolist() == list(rest)
        assert [source[place : place + n] for n, place in zip(rest, places[0])] == [
            source[len(source) - n :] for n in rest
        ]


@pytest.mark.parametrize("min_length", [1, 3, 7])
def test_runs_and_shares_against_their_definition(source_and_texts, min_length):
    source, texts = source_and_texts
    index = SourceIndex(source)
    shares = copied_share(torch.tensor(texts), index, min_length)
    found = 0
    for text, share in zip(texts.tolist(), shares):
        pieces = [(i, j) for i in range(25) for j in range(i + min_length, 26) if stands_in(text[i:j], source.tolist())]
        whole = [(i, j) for i, j in pieces if (i - 1, j) not in pieces and (i, j + 1) not in pieces]
        runs = copied_runs(torch.tensor(text), index, min_length)
        assert [(start, start + n) for start, n, _ in runs] == whole
        for start, n, place in runs:
            assert text[start : start + n] == source[place : place + n].tolist()
        assert share == pytest.approx(len({k for i, j in pieces for k in range(i, j)}) / 25, abs=1e-15)
        found += len(runs)
    assert found > 0


def test_a_text_that_stands_in_its_source_is_matched_as_a_whole():
    """Token by token these 20,000 matches, up to 20,000 long, would take minutes; each is a tail of the one before."""
    half = torch.from_numpy(np.random.default_rng(1).integers(500, size=20_000))
    index = SourceIndex(torch.cat([torch.tensor([7, 7, 7]), half, half[:100]]))
    lengths, places = index.matches(half[None])
    assert lengths[0].tolist() == [*range(20_000, 0, -1)] and (places[0, :19_000] == np.arange(3, 19_003)).all()
    tabs = torch.zeros(30_000, dtype=torch.long)
    assert SourceIndex(tabs).matches(torch.cat([tabs, tabs])[None])[0][0, ::30_000].tolist() == [30_000, 30_000]


# One idea each: the lengths are those of the longest run that begins at each token.


def test_a_run_of_exactly_n_counts():
    assert in_long_match(np.array([[0, 3, 2, 1, 0]]), 3)[0, 1]


def test_a_shorter_run_does_not_count():
    assert not in_long_match(np.array([[0, 2, 1, 0, 0]]), 3)[0, 1:3].any()


def test_all_tokens_of_a_run_are_marked():
    assert in_long_match(np.array([[0, 4, 3, 2, 1, 0]]), 3)[0, 1:5].all()


def test_the_tokens_around_a_run_are_not_marked():
    assert in_long_match(np.array([[0, 4, 3, 2, 1, 0]]), 3)[0, [0, 5]].tolist() == [False, False]


def test_no_run_goes_on_in_another_text():
    lengths = np.array([[0, 0, 0, 0], [0, 3, 2, 1], [0, 0, 0, 0]])
    assert in_long_match(lengths, 3).any(axis=1).tolist() == [False, True, False]


def test_every_text_has_its_share():
    index = SourceIndex(torch.arange(20))
    assert copied_share(torch.tensor([[1, 2, 3, 50], [50, 50, 50, 50]]), index, 3).shape == (2,)


def test_a_token_in_two_runs_counts_once():
    """2 3 4 5 and 4 5 9 overlap."""
    index = SourceIndex(torch.tensor([1, 2, 3, 4, 5, 6, 7, 8, 3, 4, 5, 9]))
    assert copied_share(torch.tensor([[2, 3, 4, 5, 9]]), index, 3).tolist() == [1.0]


def test_the_least_length_is_the_one_asked_for():
    index, text = SourceIndex(torch.arange(20)), torch.tensor([[1, 2, 3, 50]])
    assert [copied_share(text, index, n).tolist() for n in (3, 4)] == [[0.75], [0.0]]


def test_runs_by_hand():
    source = torch.tensor([1, 2, 3, 4, 5, 6, 7, 8, 3, 4, 5, 9])
    index = SourceIndex(source)
    #                    0  1  2  3  4  5  6  7  8  9
    text = torch.tensor([0, 3, 4, 5, 9, 0, 5, 6, 7, 1])
    assert copied_runs(text, index, 3) == [(1, 4, 8), (6, 3, 4)]  # 3 4 5 9 and not the 3 4 5 at place 2
    assert copied_share(text[None], index, 3).tolist() == [0.7]
    assert longest_copied(*index.matches(text[None])) == (0, 1, 4, 8)
    # 2 3 4 5 and 4 5 9 overlap: both are runs, and the tokens count once.
    both = torch.tensor([2, 3, 4, 5, 9])
    assert copied_runs(both, index, 3) == [(0, 4, 1), (1, 4, 8)]
    assert copied_share(both[None], index, 3).tolist() == [1.0]


def test_thirteen_is_the_least():
    source = torch.arange(100)
    twelve, thirteen = (torch.cat([torch.arange(40, 40 + n), torch.full((20 - n,), 500)]) for n in (12, 13))
    index = SourceIndex(source)
    assert copied_runs(twelve, index) == [] and copied_runs(thirteen, index) == [(0, 13, 40)]
    assert copied_share(torch.stack([twelve, thirteen]), index).tolist() == [0.0, 13 / 20]
    assert longest_copied(*index.matches(torch.stack([twelve, thirteen]))) == (1, 0, 13, 40)


def test_a_run_does_not_go_from_one_text_to_the_next():
    index = SourceIndex(torch.arange(50))
    texts = torch.arange(10, 30).view(2, 10)  # together one passage of the source
    assert copied_share(texts, index, 13).tolist() == [0.0, 0.0]
    assert longest_copied(*index.matches(texts)) == (0, 0, 10, 10)


def test_the_book_itself_and_nothing_of_it():
    rng = np.random.default_rng(0)
    source = rng.integers(50_000, size=2000)
    index = SourceIndex(source)
    parrot = np.stack([source[i : i + 60] for i in (0, 700, 1940)])  # from the first token, to the last
    assert copied_share(parrot, index).tolist() == [1.0] * 3
    assert [copied_runs(text, index) for text in parrot] == [[(0, 60, 0)], [(0, 60, 700)], [(0, 60, 1940)]]
    other = rng.integers(50_000, 60_000, size=(3, 60))
    assert copied_share(other, index).tolist() == [0.0] * 3
    assert longest_copied(*index.matches(other))[2] == 0 and copied_runs(other[0], index) == []


# Extraction

BOOK = torch.tensor(np.random.default_rng(9).permutation(400))  # every token once: the next follows from the last


def parrot(tokens, right=lambda following: True):
    """Continues the book word for word, but says token 0 where it is not `right`."""
    following = torch.full((400,), 0)
    following[BOOK[:-1]] = torch.where(torch.tensor([right(t) for t in BOOK[1:].tolist()]), BOOK[1:], 0)
    return 50.0 * F.one_hot(following[tokens], 400).float()


def test_a_parrot_is_caught_and_a_model_that_knows_nothing_is_not():
    assert extraction(parrot, BOOK).tolist() == [1.0] * 32
    uniform = lambda tokens: torch.zeros(*tokens.shape, 400)  # noqa: E731
    shares = extraction(uniform, BOOK, prompts=200)  # writes token 0, which stands in the book once
    assert shares.shape == (200,) and shares.dtype == np.float64
    assert set(shares.tolist()) == {0.0, 1 / 50}


def test_extraction_counts_place_by_place():
    """Token BOOK[200] is said wrongly as 0; the parrot goes on after 0 with what follows it in the book."""
    wrong = BOOK[200].item()
    tokens = BOOK[150:250]  # room for one prompt of 50 and its continuation
    after_zero = BOOK[BOOK.tolist().index(0) + 1 :].tolist()
    said = [0, *after_zero][:50]
    model = lambda t: parrot(t, right=lambda following: following != wrong)  # noqa: E731
    expected = sum(a == b for a, b in zip(said, tokens[50:].tolist())) / 50
    assert extraction(model, tokens).tolist() == [expected] and expected < 1
    # Wrong from place 30 of the continuation on.
    late = extraction(model, BOOK[120:220], prompt_tokens=50, new_tokens=50)
    assert late.tolist() == [pytest.approx(30 / 50 + sum(a == b for a, b in zip(said, BOOK[200:220].tolist())) / 50)]


def test_prompts_are_of_the_length_asked_for_and_drawn_anew_for_each_seed():
    seen = []

    def model(tokens):
        seen.append(tokens)
        return parrot(tokens)

    extraction(model, BOOK, prompts=5, prompt_tokens=7, new_tokens=3)
    assert [tuple(tokens.shape) for tokens in seen] == [(5, 7), (5, 8), (5, 9)]
    starts = [BOOK.tolist().index(token) for token in seen[0][:, 0].tolist()]
    assert torch.equal(seen[0], torch.stack([BOOK[start : start + 7] for start in starts]))
    first = seen[0]
    for seed, same in ((0, True), (1, False)):
        seen.clear()
        extraction(model, BOOK, prompts=5, prompt_tokens=7, new_tokens=3, seed=seed)
        assert torch.equal(seen[0], first) == same


def test_every_place_can_be_asked_once():
    seen = []
    model = lambda tokens: seen.append(tokens) or parrot(tokens)  # noqa: E731
    assert extraction(model, BOOK[:12], prompt_tokens=4, new_tokens=6).tolist() == [1.0] * 3  # three places, not 32
    assert sorted(seen[0][:, 0].tolist()) == sorted(BOOK[:3].tolist())
    assert extraction(parrot, BOOK[:10], prompt_tokens=4, new_tokens=6).tolist() == [1.0]
    for too_short in (9, 1, 0):
        assert extraction(parrot, BOOK[:too_short], prompt_tokens=4, new_tokens=6).shape == (0,)


def test_banned_tokens_are_not_written():
    assert extraction(parrot, BOOK[:100], banned=[BOOK[99].item()]).tolist() == [49 / 50]


def test_a_context_shorter_than_the_prompt():
    """The model sees the last tokens that it has room for, as in `generate`."""
    torch.manual_seed(0)
    model = GPT2(GPT2Config(vocab_size=400, block_size=8, n_layer=1, n_head=1, n_embd=8))
    written = complete(model, BOOK[None, 12:20], 4, temperature=0)[0, 8:]
    tokens = torch.cat([BOOK[:20], written[:2], 1 + written[2:]])  # a book that it continues for two tokens
    assert extraction(model, tokens, prompt_tokens=20, new_tokens=4).tolist() == [0.5]
    assert model.training


def test_what_counts_as_a_copy_is_what_the_author_does_not_do():
    """1,000 held-out tokens, of which runs of 20, 16 and 12 stand in the source: one in a hundred may."""
    source = np.arange(5000)
    index, held_out = SourceIndex(source), np.arange(10_000, 11_000)
    assert min_copy_length(torch.tensor(held_out), index) == 13
    held_out[100:112] = source[300:312]
    assert min_copy_length(torch.tensor(held_out), index) == 13  # 12 tokens are no run of 13
    held_out[500:516] = source[700:716]
    assert min_copy_length(torch.tensor(held_out), index) == 17  # 16 of 1,000 are too many
    held_out[800:820] = source[100:120]
    assert min_copy_length(torch.tensor(held_out), index) == 21
    longer = np.append(held_out, np.arange(20_000, 21_000))
    assert min_copy_length(torch.tensor(longer), index) == 17  # 20 of 2,000 are few enough
    assert min_copy_length(torch.tensor(source[:400]), index) == 401  # all of it
    assert min_copy_length(torch.tensor([], dtype=torch.long), index) == 13
