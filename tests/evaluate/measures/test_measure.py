"""The evaluation as a whole: each number in its place, from the right texts and the right model."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from conftest import make_text

import train.__main__ as train_command
from data.settings import Sampling
from data.tokenizer import load_tokenizer
from evaluate.loss import text_loss
from evaluate.measures.measure import (
    book_evaluation,
    checkpoint,
    continuations_of,
    decode_pieces,
    evaluation,
    measures_of_texts,
)
from evaluate.measures.reference import open_reference, pick_prompts, write
from evaluate.measures.variety import perplexity_under
from evaluate.measures.yardstick import open_yardstick
from evaluate.setup import open_setup
from model.device import Machine
from model.pretrained import load_pretrained
from model.sampling import complete

SAMPLING = Sampling(sequences=70, new_tokens=9, top_k=7, temperature=0.8, seed=3)
MACHINE = Machine("cpu", "float32")


@pytest.fixture
def setup(model_folder, text_file):
    return open_setup(str(model_folder), str(text_file), holdout=0.2)


@pytest.fixture
def base(model_folder):
    return load_pretrained(model_folder)


@pytest.fixture
def reference(setup, base):
    return open_reference(setup, base, write(setup, base, SAMPLING, MACHINE, ""), SAMPLING, 16, MACHINE)


def test_the_expected_ratio_is_the_samplers_mass_over_all_steps(setup, base):
    """Against a full pass over the finished texts, the sampler's rule written out in NumPy; 70 texts are two groups."""
    written = write(setup, base, SAMPLING, MACHINE, "")
    tokens = written.ratio.tokens
    with torch.no_grad():
        logits = base.double()(tokens[:, :-1]).numpy()
    masses, own = np.zeros((70, 9)), np.zeros((70, 9))
    for i, j in np.ndindex(70, 9):
        row = logits[i, j].copy()
        row[setup.tokenizer.eot_token] = -np.inf
        p = np.exp(row - row.max())
        own[i, j] = p[setup.frequent].sum() / p.sum()
        row[row < np.sort(row)[-7]] = -np.inf
        p = np.exp((row - row.max()) / 0.8)
        masses[i, j] = p[setup.frequent].sum() / p.sum()
    assert written.masses.shape == (70,)
    np.testing.assert_allclose(written.masses, masses.mean(1), atol=1e-5)
    np.testing.assert_allclose(written.untruncated, own.mean(1), atol=1e-5)
    assert abs(written.untruncated.mean() - written.masses.mean()) > 0.01  # the tail that is cut off counts
    assert abs(written.masses.mean() - written.ratio.ratio) < 0.08  # the same mean, less noise


def test_the_base_model_has_forgotten_and_changed_nothing(setup, base, reference):
    written = write(setup, base, SAMPLING, MACHINE, "")
    found = evaluation(reference, base, written, {"wte": 0.0}, "")
    assert found["forgetting"] == {
        "base_texts": {"kl": 0.0, "kl_ci": (0.0, 0.0), "loss_increase": 0.0, "loss_increase_ci": (0.0, 0.0)}
    }
    assert math.log(found["held_out"]["perplexity"]) == pytest.approx(found["held_out"]["loss"])
    json.dumps(found, allow_nan=False)


def test_another_model_is_held_against_the_base(setup, base, reference):
    other = load_pretrained(setup.folder)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
    written = write(setup, other, SAMPLING, MACHINE, "")
    found = evaluation(reference, other, written, {}, "")
    inputs, targets = reference.base_texts[:, :-1], reference.base_texts[:, 1:, None]
    with torch.no_grad():
        log_p, log_q = (m.double()(inputs).log_softmax(-1) for m in (base, other))
    forgetting = found["forgetting"]["base_texts"]
    assert forgetting["kl"] == pytest.approx((log_p.exp() * (log_p - log_q)).sum(-1).mean().item(), rel=1e-4)
    increase = (log_p - log_q).gather(2, targets).mean().item()
    assert forgetting["loss_increase"] == pytest.approx(increase, rel=1e-3)
    # Fluency is the base model's judgement of the other's texts, not of its own.
    own = written.ratio.tokens
    with torch.no_grad():
        losses = -base.double()(own[:, :-1]).log_softmax(-1).gather(2, own[:, 1:, None])
    assert found["base_perplexity"] == pytest.approx(losses.mean().exp().item(), rel=1e-4)


def test_a_parrot_is_caught(setup, reference):
    """Texts cut out of the training text are copied throughout; the same of what was held out are not."""
    assert reference.least > 30  # in a language of six nouns and verbs, that long a run says nothing
    reference = dataclasses.replace(reference, least=13)
    parrot = setup.training_tokens[: 40 * 30].view(40, 30)
    found = measures_of_texts(reference, parrot)
    assert found["copied"] == 1.0 and found["copied_ci"] == (1.0, 1.0) and found["novelty"] == [0.0] * 10
    assert found["longest_copy"]["tokens"] == 30
    assert found["longest_copy"]["passage"] == setup.tokenizer.decode(parrot[0].tolist())
    jumble = setup.training_tokens[torch.randperm(1200, generator=torch.Generator().manual_seed(1))].view(40, 30)
    assert measures_of_texts(reference, jumble)["copied"] == 0.0


def test_the_book_is_measured_on_what_was_held_out(setup, reference):
    book = book_evaluation(reference)
    texts = setup.held_out_tokens[: len(setup.held_out_tokens) // 9 * 9]
    assert book["texts"] == len(texts) // 9
    assert book["ratio"] == pytest.approx(np.isin(texts.numpy(), setup.frequent).mean())
    passages = torch.cat([reference.prompts, reference.book_continuations], 1)
    windows = setup.held_out_tokens.unfold(0, passages.shape[1], 1)
    assert all((windows == passage).all(1).any() for passage in passages)
    for tokens, shown in zip(reference.book_continuations.tolist(), book["continuations"], strict=True):
        assert "".join(shown["pieces"]) == setup.tokenizer.decode(tokens)
        assert len(shown["pieces"]) == len(shown["frequent"]) == 60


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
    assert "".join(broken).startswith("a Ł and ") and "�" in broken[-1]


@pytest.mark.parametrize("holdout", [0.0, 0.2])
def test_before_and_after_are_checkpoints_too(model_folder, text_file, base, holdout):
    """By all the texts; the base model's has no distance from itself."""
    setup = open_setup(str(model_folder), str(text_file), holdout=holdout)
    yardstick = open_yardstick(setup, base, SAMPLING, 16, MACHINE)
    assert yardstick.first_checkpoint == yardstick.checkpoint(base, 0, 70)
    tuned = load_pretrained(model_folder)
    with torch.no_grad():
        tuned.ln_f.bias += 0.2
    after = yardstick.evaluate(tuned, "")
    assert yardstick.checkpoint_of(tuned, 7, after) == (found := yardstick.checkpoint(tuned, 7, 70))
    assert found["kl"] > 0.01 and yardstick.checkpoint_of(tuned, 7, after | {"copied": 0.5})["copied"] == 0.5


def test_of_a_long_text_a_part_is_measured_on_the_way_and_all_before_and_after(setup, base, reference, monkeypatch):
    for module in ("measure", "yardstick"):
        monkeypatch.setattr(f"evaluate.measures.{module}.HELD_OUT_ON_THE_WAY", 100)
    monkeypatch.setattr("evaluate.measures.reference.BOOK_TEXTS", 3)
    yardstick = open_yardstick(setup, base, SAMPLING, 16, MACHINE)
    part, whole = (text_loss(base, setup.held_out_tokens[:most], 16) for most in (100, None))
    assert part != whole and yardstick.before["held_out"]["loss"] == pytest.approx(whole, abs=1e-6)
    assert yardstick.first_checkpoint == (first := yardstick.checkpoint(base, 0, 70))
    assert first["held_out_loss"] == pytest.approx(part, abs=1e-6)
    assert yardstick.book["texts"] == 3


def test_the_books_perplexity_is_of_as_many_texts_as_a_model_writes(setup, base):
    few = dataclasses.replace(SAMPLING, sequences=2)
    book = open_yardstick(setup, base, few, 16, MACHINE).book
    texts = setup.held_out_tokens[: few.new_tokens * 2].view(2, -1)
    assert book["texts"] > 2 and book["base_perplexity"] == pytest.approx(perplexity_under(base, texts), rel=1e-5)


def test_a_checkpoint_measures_the_first_of_the_same_texts(setup, base, reference):
    found = checkpoint(reference, base, 5, 4)
    assert found["sample"] == 5 and found["kl"] == 0.0
    assert set(found) == {"sample", "held_out_loss", "kl", "copied", "continuations"}
    # Two of the prompts, with the luck that they have after training as well.
    assert found["continuations"] == continuations_of(reference, base)[:2]
    assert set(checkpoint(reference, base, 5, 0)) == {"sample", "held_out_loss"}


def test_a_general_text_is_measured_and_a_short_one_refused(command, model_folder, text_file, tmp_path):
    flags = ("--lr", "1e-2", "--model", model_folder, "--text", text_file, "--samples", 2, "--batch-size", 2)
    flags += ("--seq-len", 16, "--eval-sequences", 3, "--eval-tokens", 5)
    (tmp_path / "other.txt").write_text(make_text(300, seed=9), encoding="utf-8")
    code, _, err = command(
        train_command.main, *flags, "--general-text", tmp_path / "other.txt", "--out", tmp_path / "run"
    )
    assert code == 0, err
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert result["before"]["forgetting"]["general"]["kl"] == 0 < result["after"]["forgetting"]["general"]["kl"]
    assert result["after"]["weight_change"]["h.0"] > 0 == result["before"]["weight_change"]["h.0"]
    (tmp_path / "short.txt").write_text("a ship", encoding="utf-8")
    code, _, err = command(
        train_command.main, *flags, "--general-text", tmp_path / "short.txt", "--out", tmp_path / "new"
    )
    assert code == 2 and "general-text" in err and not (tmp_path / "new").exists()


def test_the_shown_texts_have_a_sampling_of_their_own(base, reference):
    """Whatever the ratio's texts are drawn with, these are drawn among the 40 likeliest, at temperature 0.8."""
    prompts, after = reference.prompts[:, :10], reference.book_continuations[:, :14]
    short = dataclasses.replace(reference, prompts=prompts, book_continuations=after)
    shown = ["".join(found["pieces"]) for found in continuations_of(short, base)]
    other = dataclasses.replace(SAMPLING, top_k=1, temperature=2.0)
    assert shown == [
        "".join(found["pieces"]) for found in continuations_of(dataclasses.replace(short, sampling=other), base)
    ]
    banned = [reference.setup.tokenizer.eot_token]
    rows = complete(base, prompts, 14, temperature=0.8, top_k=40, seed=SAMPLING.seed, banned=banned)
    assert shown == ["".join(decode_pieces(reference.setup.tokenizer, row)) for row in rows[:, 10:].tolist()]
