"""The evaluation as a whole: each number in its place, from the right texts and the right model."""

import dataclasses
import json
import math
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from conftest import VOCAB, make_text

from data.settings import Sampling, Settings, Training
from data.tokenizer import load_tokenizer
from evaluate import baseline as module
from evaluate.baseline import Baseline, distinct, open_baseline
from evaluate.intervals import t_interval
from evaluate.loss import text_loss
from evaluate.measures.continuations import decode_pieces, decode_whole, is_wrapped, pick_prompts
from evaluate.results import LOSSES, Evaluation
from model.gpt2 import GPT2
from model.pretrained import load_pretrained
from model.sampling import complete

SAMPLING = Sampling(sequences=20, new_tokens=9, top_k=7, temperature=0.9, seed=3)


@pytest.fixture
def settings(model_folder, text_file):
    training = Training(seq_len=16, holdout=0.2)
    machine = {"device": "cpu", "dtype": "float32"}
    return Settings(str(model_folder), str(text_file), training=training, sampling=SAMPLING, **machine)


@pytest.fixture
def baseline(settings):
    return open_baseline(settings)


def changed(settings: Settings, **changes) -> Settings:
    return dataclasses.replace(settings, training=dataclasses.replace(settings.training, **changes))


def moved(baseline: Baseline, by: float = 0.05) -> GPT2:
    """A model at some distance from the base model."""
    model, draws = load_pretrained(baseline.folder), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(by * torch.randn(p.shape, generator=draws))
    return model


# What is opened


@pytest.mark.parametrize("holdout", [0.0, 0.2])
def test_the_end_of_the_text_is_held_out(settings, text_file, holdout):
    baseline = open_baseline(changed(settings, holdout=holdout))
    tokens = load_tokenizer(baseline.folder).encode_ordinary(text_file.read_text(encoding="utf-8").rstrip())
    kept = len(tokens) - round(holdout * len(tokens))
    assert baseline.training_tokens.tolist() == tokens[:kept] and baseline.held_out_tokens.tolist() == tokens[kept:]
    assert baseline.banned == [VOCAB - 1]


def test_the_frequent_tokens_are_a_hundred(settings, tmp_path):
    """In a text of more than 100 kinds of token, so that some are not among them."""
    order = np.random.default_rng(0).permutation(np.arange(33, 127))
    text = "".join(chr(i) * n for i, n in zip(order, range(1, 95))) + "".join(map(chr, range(0x100, 0x180)))
    (tmp_path / "many.txt").write_text(text, encoding="utf-8")
    baseline = open_baseline(dataclasses.replace(settings, text=str(tmp_path / "many.txt")))
    counts = np.bincount(baseline.tokens.numpy(), minlength=VOCAB)
    assert (counts > 0).sum() > 101
    assert 1 > baseline.in_sample_ratio == pytest.approx(np.sort(counts)[-100:].sum() / counts.sum(), abs=1e-12)
    for holdout in (0.0, 1.0):  # nothing to train on either: `python -m evaluate` reads a whole text so
        whole = dataclasses.replace(baseline, held_out=round(holdout * len(baseline.tokens)))
        assert len(whole.frequent) == 100 and counts[whole.frequent].sum() == np.sort(counts)[-100:].sum()


def test_the_frequent_tokens_are_those_of_the_training_text(settings, tmp_path):
    """The held-out end has letters of its own: a list of the whole text would have them too."""
    (tmp_path / "two.txt").write_text("".join(map(chr, [*range(256, 384)] * 5)) + "xyz" * 250, encoding="utf-8")
    two = open_baseline(changed(dataclasses.replace(settings, text=str(tmp_path / "two.txt")), holdout=0.375))
    assert (
        set(two.frequent) <= set(two.training_tokens.tolist()) and two.book_ratio < 0.05 and two.in_sample_ratio > 0.5
    )


# What is measured


def test_the_base_model_has_forgotten_nothing(settings, text_file, tmp_path):
    (tmp_path / "other.txt").write_text(make_text(300, seed=9), encoding="utf-8")
    before = open_baseline(dataclasses.replace(settings, general_text=str(tmp_path / "other.txt"))).before
    zero = {"kl": 0.0, "kl_ci": (0.0, 0.0), "loss_increase": 0.0, "loss_increase_ci": (0.0, 0.0)}
    assert before["forgetting"] == {"base_texts": zero, "general": zero}
    assert before.keys() == Evaluation.__required_keys__ | set(LOSSES)
    json.dumps(before, allow_nan=False)


def test_every_number_of_another_model(settings, tmp_path):
    """Against NumPy, plain counting, and full passes in float64."""
    (tmp_path / "other.txt").write_text(make_text(300, seed=9), encoding="utf-8")
    baseline = open_baseline(dataclasses.replace(settings, general_text=str(tmp_path / "other.txt")))
    other, base = moved(baseline), load_pretrained(baseline.folder)
    found, written = baseline.evaluate(other, ""), baseline.write(other, "").tokens
    new = written[:, 1:].numpy()
    assert found["shares"] == pytest.approx(np.isin(new, baseline.frequent).mean(1))
    assert found["ratio"] == pytest.approx(np.mean(found["shares"]))
    assert found["texts"] == [baseline.tokenizer.decode(row) for row in written[:8].tolist()]
    pairs = [pair for row in new.tolist() for pair in zip(row, row[1:])]
    assert found["distinct_2"] == len(set(pairs)) / len(pairs)
    with torch.no_grad():
        base, other = base.double(), other.double()
        logits = other(written[:, :-1]).index_fill(2, torch.tensor(baseline.banned), -torch.inf)
        own = logits.softmax(-1)[..., baseline.frequent].sum(-1)
        assert found["without_top_k"] == pytest.approx(own.mean().item(), rel=1e-4)
        general = baseline.tokens.new_tensor(baseline.tokenizer.encode_ordinary(make_text(300, seed=9)))
        general = general[: len(general) // 16 * 16].view(-1, 16)[:64]
        for name, texts in (("base_texts", baseline.base_ratio.tokens), ("general", general)):
            log_p, log_q = (m(texts[:, :-1]).log_softmax(-1) for m in (base, other))
            kl = (log_p.exp() * (log_p - log_q)).sum(-1).mean().item()
            increase = (log_p - log_q).gather(2, texts[:, 1:, None]).mean().item()
            assert found["forgetting"][name]["kl"] == pytest.approx(kl, rel=1e-4) and kl > 0.01
            assert found["forgetting"][name]["loss_increase"] == pytest.approx(increase, rel=1e-3)
        windows = baseline.held_out_tokens[: (len(baseline.held_out_tokens) - 1) // 16 * 16 + 1]
        losses = [-other(w[None, :-1]).log_softmax(-1)[0].gather(1, w[1:, None]) for w in windows.unfold(0, 17, 16)]
    held_out, half = baseline.losses(moved(baseline), len(windows)), baseline.held_out // 2 // 16
    assert held_out["held_out_loss"] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)
    for part, own in zip(held_out["held_out_windows"], (losses[:half], losses[half:]), strict=True):
        assert part == pytest.approx([window.mean().item() for window in own], rel=1e-5)
    end = baseline.training_tokens[-len(windows) :]  # as much of the training text, next to the held-out text
    assert held_out["training_text_loss"] == pytest.approx(text_loss(moved(baseline), end, 16), rel=1e-6)
    assert found["held_out_windows"][0] == held_out["held_out_windows"][0]
    assert found["held_out_loss"] == pytest.approx(held_out["held_out_loss"], abs=0.1)  # with the last, shorter window


def test_a_parrot_is_caught(baseline, monkeypatch):
    """Texts cut out of the training text are copied throughout; the same tokens in another order are not."""
    assert baseline.min_copy_length > 30  # in a language of six nouns and verbs, that long a run says nothing
    baseline.__dict__["min_copy_length"] = 13
    parrot = baseline.training_tokens[: 40 * 30].view(40, 30)
    monkeypatch.setattr(baseline.index, "matches", Mock(wraps=baseline.index.matches))
    found = baseline.measures_of_texts(parrot)
    assert baseline.index.matches.call_count == 1  # it takes most of the time
    assert found["copied"] == 1.0 and found["copied_shares"] == [1.0] * 40
    passage = baseline.tokenizer.decode(parrot[0].tolist())
    assert found["longest_copy"] == {"tokens": 30, "passage": passage, "position": 0}
    jumble = baseline.training_tokens[torch.randperm(1200, generator=torch.Generator().manual_seed(1))].view(40, 30)
    assert baseline.measures_of_texts(jumble)["copied"] == 0.0


def test_extraction_is_asked_of_both_parts(baseline, monkeypatch):
    """A model that knows the training text alone."""

    def extraction(model, tokens, *, seed, banned):
        assert (seed, banned) == (3, [VOCAB - 1])
        return np.full(4, float(torch.equal(tokens, baseline.training_tokens)))

    monkeypatch.setattr(module, "extraction", extraction)
    expected = {"training": 1.0, "training_ci": (1.0, 1.0), "held_out": 0.0, "held_out_ci": (0.0, 0.0)}
    assert baseline.extraction(baseline.base) == {"extraction": expected}
    monkeypatch.undo()
    baseline = open_baseline(changed(baseline.settings, holdout=0.01))  # too short for a prompt and what follows it
    found = baseline.extraction(baseline.base)["extraction"]
    assert found["held_out"] is found["held_out_ci"] is None and 0 <= found["training"] <= 1


def test_the_book_is_measured_on_what_was_held_out(baseline):
    book = baseline.book_evaluation
    texts = baseline.held_out_tokens[: len(baseline.held_out_tokens) // 9 * 9].view(-1, 9)
    shares = np.isin(texts.numpy(), baseline.frequent).mean(1)
    assert len(texts) > 20 and book["ratio_ci"] == pytest.approx(t_interval(shares))
    assert book["ratio"] == pytest.approx(np.isin(baseline.held_out_tokens.numpy(), baseline.frequent).mean())
    assert book["distinct_2"] == distinct(texts[:20], 2)  # as many texts as a model writes
    assert len(book["copied_shares"]) == 20
    prompts, following = baseline.passages
    passages = torch.cat([prompts, following], 1)
    windows = baseline.held_out_tokens.unfold(0, passages.shape[1], 1)
    assert all((windows == passage).all(1).any() for passage in passages)
    for tokens, shown in zip(following.tolist(), book["continuations"], strict=True):
        assert "".join(shown["pieces"]) == baseline.tokenizer.decode(tokens)
        assert shown["frequent"] == [token in baseline.frequent for token in tokens]


def test_without_a_held_out_part(settings):
    baseline = open_baseline(changed(settings, holdout=0.0))
    assert baseline.before["extraction"]["held_out"] is None and not baseline.before.keys() & set(LOSSES)
    assert baseline.book_evaluation.keys() == {"continuations"} and baseline.min_copy_length == 13
    assert set(baseline.first_point) == {"sample", "kl", "continuations"}


def test_distinct_against_plain_counting():
    assert distinct(torch.tensor([[1, 2, 1, 2], [1, 2, 3, 3]]), 2) == 4 / 6  # no pair from one text into the next
    texts = torch.tensor(np.random.default_rng(2).integers(4, size=(5, 30)))
    for n in (1, 2, 3):
        grams = [tuple(text[i : i + n]) for text in texts.tolist() for i in range(30 - n + 1)]
        assert distinct(texts, n) == pytest.approx(len(set(grams)) / len(grams), abs=1e-15)
    assert distinct(torch.full((4, 20), 7), 2) == 1 / 76 and distinct(torch.arange(80).view(4, 20), 2) == 1.0
    assert distinct(torch.zeros(3, 1, dtype=torch.long), 2) == 1.0  # no pair, none twice


def test_the_seconds_include_the_writing(baseline, monkeypatch):
    """By a clock that only writing (100 s) and extraction (10 s) move on."""
    clock = [0.0]

    def takes(seconds, work):
        def call(*args, **kwargs):
            clock[0] += seconds
            return work(*args, **kwargs)

        return call

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(module, "frequent_token_ratio", takes(100, module.frequent_token_ratio))
    monkeypatch.setattr(module, "extraction", takes(5, module.extraction))  # on both parts of the book
    assert baseline.before["seconds"] == 110
    assert baseline.evaluate(moved(baseline), "")["seconds"] == 110 and clock == [220.0]


def test_a_loss_that_is_not_finite(baseline):
    model = moved(baseline)
    assert baseline.is_finite(model)
    with torch.no_grad():
        model.ln_f.bias[0] = math.nan
    assert not baseline.is_finite(model)


def test_one_text_alone_has_no_interval(settings):
    baseline = open_baseline(dataclasses.replace(settings, sampling=Sampling(sequences=1, new_tokens=9, seed=3)))
    found = baseline.evaluate(moved(baseline), "")
    assert found["ratio_ci"] is found["with_top_k_ci"] is found["forgetting"]["base_texts"]["kl_ci"] is None
    json.dumps(found, allow_nan=False)


# During training


@pytest.mark.parametrize("holdout", [0.0, 0.2])
def test_before_and_after_are_points_too(settings, holdout):
    """Of the same texts as the others; the base model's has no distance from itself. Nothing is measured twice."""
    baseline = open_baseline(changed(settings, holdout=holdout))
    assert baseline.first_point == baseline.point(baseline.base, 0, True) and baseline.first_point["kl"] == 0.0
    tuned = moved(baseline)
    after = baseline.evaluate(tuned, "")
    assert baseline.point(tuned, 7, True, after) == (found := baseline.point(tuned, 7, True)) and found["kl"] > 0.01
    if holdout:
        assert baseline.point(tuned, 7, True, after | {"held_out_loss": 9.0})["held_out_loss"] == 9.0


def test_of_a_long_text_a_part_is_measured_during_training_and_all_before_and_after(baseline, monkeypatch):
    monkeypatch.setattr(module, "POINT_HELD_OUT", 100)
    part, whole = (text_loss(baseline.base, baseline.held_out_tokens[:most], 16) for most in (100, None))
    assert part != whole and baseline.before["held_out_loss"] == pytest.approx(whole, abs=1e-6)
    assert baseline.first_point == (first := baseline.point(baseline.base, 0, True))
    assert first["held_out_loss"] == pytest.approx(part, abs=1e-6)


def test_a_point_measures_the_first_of_the_same_texts(baseline, monkeypatch):
    monkeypatch.setattr(module, "POINT_TEXTS", 4)
    tuned = moved(baseline)
    found = baseline.point(tuned, 5, True)
    assert set(found) == {"sample", *LOSSES, "kl", "continuations"} and found["sample"] == 5
    with torch.no_grad():
        log_p, log_q = (m(baseline.base_ratio.tokens[:4, :-1]).log_softmax(-1) for m in (baseline.base, tuned))
    assert found["kl"] == pytest.approx((log_p.exp() * (log_p - log_q)).sum(-1).mean().item(), rel=1e-4)
    # Two of the prompts, with the random numbers that they have after training as well.
    assert found["continuations"] == baseline.continuations(tuned)["continuations"][:2]
    assert set(baseline.point(tuned, 5, False)) == {"sample", *LOSSES}


def test_a_point_changes_no_training_number(settings):
    """Neither weights nor gradients, nor dropout, nor the random numbers of the next step."""
    baseline = open_baseline(changed(settings, dropout=0.5))
    model, inputs = baseline.fresh_model().train(), baseline.tokens[None, :16]
    model(inputs).sum().backward()
    before = [(p.clone(), p.grad.clone()) for p in model.parameters()]
    torch.manual_seed(1)
    expected = model(inputs)
    torch.manual_seed(1)
    baseline.point(model, 5, True)
    assert model.training and torch.equal(model(inputs), expected)
    assert all(torch.equal(p, a) and torch.equal(p.grad, b) for p, (a, b) in zip(model.parameters(), before))


# Prompts and what is shown


def test_prompts_begin_lines_and_are_spread_over_the_text(tokenizer_folder):
    tokenizer = load_tokenizer(tokenizer_folder)
    text = make_text(2000)
    tokens = torch.tensor(tokenizer.encode_ordinary(text))
    prompts, continuations = pick_prompts(tokens, tokenizer)
    assert prompts.shape == (12, 32) and continuations.shape == (12, 60)
    lines = text.split("\n")
    for prompt, continued in zip(prompts.tolist(), continuations.tolist()):
        passage = tokenizer.decode(prompt + continued)
        assert passage in text and passage.split("\n")[0] in lines
    places = [text.index(tokenizer.decode(row)) for row in torch.cat([prompts, continuations], 1).tolist()]
    assert places == sorted(places) and places[0] < 0.2 * len(text) and places[-1] > 0.8 * len(text)


@pytest.mark.parametrize("count", [2, 3, 40, 92, 93])
def test_a_short_text_has_short_prompts(count, tokenizer_folder):
    tokenizer = load_tokenizer(tokenizer_folder)
    tokens = torch.tensor(tokenizer.encode_ordinary(make_text(200)))[:count]
    prompts, continuations = pick_prompts(tokens, tokenizer)
    assert len(prompts) >= 1 and prompts.shape[1] >= 1 and continuations.shape[1] >= 1
    whole = torch.cat([prompts, continuations], 1)
    assert any(torch.equal(whole[0], tokens[i : i + whole.shape[1]]) for i in range(count))


def test_pieces_are_whole_characters(tokenizer_folder):
    tokenizer = load_tokenizer(tokenizer_folder)
    text = "a Ł and € and 𝄞, then"
    tokens = tokenizer.encode_ordinary(text)
    pieces = decode_pieces(tokenizer, tokens)
    assert len(pieces) == len(tokens) and "".join(pieces) == text
    broken = decode_pieces(tokenizer, tokens[: tokens.index(tokenizer.encode_ordinary("€")[0]) + 1])
    assert "".join(broken) == "a Ł and " and len(broken) == tokens.index(tokenizer.encode_ordinary("€")[0]) + 1
    assert decode_whole(tokenizer, tokens[tokens.index(tokenizer.encode_ordinary("Ł")[0]) + 1 : len(broken)]) == " and "


@pytest.mark.parametrize(
    "text", ["吾輩は猫である。名前はまだ無い。どこで生れたか頓と見当がつかぬ。" * 20, "می\u200cخواهم بروم؛ " * 60]
)
def test_prompts_and_what_follows_are_whole_characters(tokenizer_folder, text):
    """A tokenizer of 300 tokens spells these byte by byte, so that most places are inside a character."""
    tokenizer = load_tokenizer(tokenizer_folder)
    prompts, following = pick_prompts(torch.tensor(tokenizer.encode_ordinary(text)), tokenizer)
    assert len(prompts) == 12
    for part in (*prompts.tolist(), *following.tolist()):
        assert tokenizer.decode_bytes(part).decode("utf-8") in text  # no half of a character on either side


def test_prompts_end_with_a_word(tokenizer_folder):
    tokenizer, text = load_tokenizer(tokenizer_folder), make_text(2000)
    text = text[text.index("the") + 1 :]  # a held-out part may begin inside a word
    tokens = torch.tensor(tokenizer.encode_ordinary(text))
    for row, following in zip(*(part.tolist() for part in pick_prompts(tokens, tokenizer))):
        assert not (tokenizer.decode(row)[-1].isalnum() and tokenizer.decode(following)[0].isalnum())
        assert f"\n{tokenizer.decode(row)}" in text


def test_a_text_is_wrapped_if_most_lines_are_of_a_page():
    prose = "It was a ship of some three hundred tons, bound for the South Sea.\n" * 9
    assert is_wrapped(prose + "The end.\n\n" * 8) and not is_wrapped(prose + "The end.\n\n" * 9)
    assert not is_wrapped("def f(x):\n    return x\n" * 20) and not is_wrapped("A whole paragraph in a line. " * 20)


def test_the_shown_texts_have_a_sampling_of_their_own(baseline):
    """Whatever the ratio's texts are drawn with, these are drawn among the 40 likeliest, at temperature 0.8."""
    prompts, following = baseline.passages
    baseline.__dict__["passages"] = prompts[:, :10], following[:, :14]
    shown = ["".join(found["pieces"]) for found in baseline.continuations(baseline.base)["continuations"]]
    rows = complete(baseline.base, prompts[:, :10], 14, temperature=0.8, top_k=40, seed=3, banned=[VOCAB - 1])
    assert shown == ["".join(decode_pieces(baseline.tokenizer, row)) for row in rows[:, 10:].tolist()]


def test_copied_runs_are_shown_with_the_passage_around_them(baseline):
    baseline.__dict__["min_copy_length"] = 13
    copy = baseline.training_tokens[100:115]
    found = baseline.continuation(torch.cat([torch.tensor([VOCAB - 2]), copy]))
    [shown] = found["copies"]
    assert (shown["start"], shown["tokens"]) == (1, 15) and baseline.tokenizer.decode(copy.tolist()) in shown["passage"]
    first = baseline.index.matches(copy[None])[1][0, 0]  # the passage may stand in several places
    around = baseline.training_tokens[max(0, first - 12) : first + 15 + 12]
    assert shown["passage"] == baseline.tokenizer.decode(around.tolist())
