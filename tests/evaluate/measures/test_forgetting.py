"""Forgetting: against NumPy in float64, and where the right answer is known: no change, and any change at will."""

import math

import numpy as np
import pytest
import torch

from evaluate.measures import forgetting
from evaluate.measures.forgetting import divergence_from_base
from model.gpt2 import GPT2, GPT2Config
from model.sampling import cast_copy

V, BLOCK = 40, 12


def make_model(seed: int, **config) -> GPT2:
    """Far from the initial weights, so that the two models of a test say different things."""
    torch.manual_seed(seed)
    model = GPT2(GPT2Config(vocab_size=V, block_size=BLOCK, n_layer=2, n_head=2, n_embd=8, **config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture
def texts():
    return torch.tensor(np.random.default_rng(3).integers(V, size=(7, 10)))


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def expected_from(base, tuned, texts):
    """Text by text and place by place, in float64."""
    divergences, increases = [], []
    for text in texts:
        with torch.no_grad():
            p, q = (log_softmax(model(text[None, :-1])[0].double().numpy()) for model in (base, tuned))
        divergences.append(np.mean([(np.exp(a) * (a - b)).sum() for a, b in zip(p, q)]))
        increases.append(np.mean([p[i, token] - q[i, token] for i, token in enumerate(text[1:].tolist())]))
    return divergences, increases


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_against_numpy(texts, batch_size):
    base, tuned = make_model(0), make_model(1)
    kl, increase = divergence_from_base(base, tuned, texts, batch_size)
    assert kl.dtype == increase.dtype == np.float64 and kl.shape == increase.shape == (7,)
    expected = expected_from(base, tuned, texts)
    np.testing.assert_allclose(kl, expected[0], atol=2e-6)
    np.testing.assert_allclose(increase, expected[1], atol=2e-6)
    assert kl.min() > 0.05 and np.ptp(kl) > 0.01  # the texts differ, so their order matters


# One idea each, on models that give the same probabilities whatever they read.


def says(*probabilities: float):
    return lambda tokens: torch.tensor(probabilities).log().expand(*tokens.shape, len(probabilities))


ZEROS = torch.zeros(2, 4, dtype=torch.long)


def test_every_text_has_two_numbers():
    """Also where the last group has fewer texts than the others."""
    found = divergence_from_base(says(0.5, 0.5), says(0.25, 0.75), torch.zeros(7, 4, dtype=torch.long), batch_size=3)
    assert [x.shape for x in found] == [(7,), (7,)] and all(x.dtype == np.float64 for x in found)


def test_the_divergence_is_a_sum_over_the_vocabulary():
    """Of these two the divergence is the same in both directions."""
    kl, _ = divergence_from_base(says(0.5, 0.25, 0.25), says(0.25, 0.25, 0.5), ZEROS)
    assert kl == pytest.approx([0.25 * math.log(2)] * 2, abs=1e-6)


def test_the_divergence_has_this_direction():
    kl, _ = divergence_from_base(says(0.5, 0.5), says(0.1, 0.9), ZEROS)
    assert kl == pytest.approx([0.5 * math.log(5) + 0.5 * math.log(5 / 9)] * 2, abs=1e-6)


def test_each_text_has_its_own_mean():
    """After token 1 the tuned model says something else."""

    def tuned(tokens):
        return torch.tensor([[0.5, 0.5], [0.1, 0.9]]).log()[tokens]

    kl, _ = divergence_from_base(says(0.5, 0.5), tuned, torch.tensor([[0, 0, 0, 0], [1, 1, 0, 0]]))
    one = 0.5 * math.log(5) + 0.5 * math.log(5 / 9)
    assert kl == pytest.approx([0.0, 2 / 3 * one], abs=1e-6)  # at three places, the last token is not read


def test_the_increase_is_tuned_less_base():
    _, increase = divergence_from_base(says(0.5, 0.5), says(0.25, 0.75), ZEROS)
    assert increase == pytest.approx([math.log(2)] * 2, abs=1e-6)


def test_the_increase_is_on_the_next_tokens():
    _, increase = divergence_from_base(says(0.5, 0.5), says(0.25, 0.75), torch.tensor([[1, 0, 0, 0]]))
    assert increase == pytest.approx([math.log(2)], abs=1e-6)


def test_what_both_exclude_adds_nothing():
    kl, _ = divergence_from_base(says(0.5, 0.5, 0.0), says(0.5, 0.5, 0.0), ZEROS)
    assert kl.tolist() == [0.0, 0.0]


def test_what_the_tuned_model_alone_excludes_makes_it_infinite():
    kl, _ = divergence_from_base(says(0.25, 0.25, 0.5), says(0.5, 0.5, 0.0), ZEROS)
    assert kl.tolist() == [math.inf, math.inf]


def test_logits_that_are_no_numbers_make_it_infinite():
    found = divergence_from_base(says(0.5, 0.5), says(math.nan, 0.5), ZEROS)
    assert [x.tolist() for x in found] == [[math.inf] * 2] * 2


@pytest.mark.parametrize("dropping", ["base", "tuned"])
def test_no_dropout_while_it_is_measured(texts, dropping):
    base, tuned = make_model(0, dropout=0.5).eval(), make_model(1, dropout=0.5).eval()
    expected, _ = divergence_from_base(base, tuned, texts)
    {"base": base, "tuned": tuned}[dropping].train()
    np.testing.assert_array_equal(divergence_from_base(base, tuned, texts)[0], expected)


def test_a_model_in_training_stays_in_training(texts):
    base, tuned = make_model(0).train(), make_model(1).eval()
    divergence_from_base(base, tuned, texts)
    assert base.training and not tuned.training


def test_by_hand_and_in_this_direction():
    """base says 1/2, 1/2, 0 and tuned 1/4, 1/4, 1/2: KL(base || tuned) is log 2, the other way round infinite."""
    halves = lambda tokens: torch.tensor([0.5, 0.5, 0.0]).log().expand(*tokens.shape, 3)  # noqa: E731
    quarters = lambda tokens: torch.tensor([0.25, 0.25, 0.5]).log().expand(*tokens.shape, 3)  # noqa: E731
    texts = torch.tensor([[2, 0, 1, 1], [0, 0, 0, 0]])
    kl, increase = divergence_from_base(halves, quarters, texts)
    assert kl == pytest.approx([math.log(2)] * 2, abs=1e-7) and increase == pytest.approx([math.log(2)] * 2, abs=1e-7)
    kl, increase = divergence_from_base(quarters, halves, texts)
    assert kl.tolist() == [math.inf, math.inf] and increase == pytest.approx([-math.log(2)] * 2, abs=1e-7)


def test_the_base_model_itself(texts):
    model = make_model(0, dropout=0.5).train()
    kl, increase = divergence_from_base(model, model, texts)
    assert kl.tolist() == increase.tolist() == [0.0] * 7  # with dropout they would not be
    assert model.training


def test_both_models_are_left_as_they_were(texts):
    base, tuned = make_model(0, dropout=0.5).eval(), make_model(1, dropout=0.5).eval()
    expected, _ = divergence_from_base(base, tuned, texts)
    for one, other in ((base, tuned), (tuned, base)):  # one in training, the other not
        one.train(), other.eval()
        np.testing.assert_array_equal(divergence_from_base(base, tuned, texts)[0], expected)
        assert one.training and not other.training


def test_never_nan():
    def says(logits):
        return lambda tokens: torch.tensor(logits).expand(*tokens.shape, 3)

    plain, text = says([0.0, 1.0, 2.0]), torch.zeros(1, 4, dtype=torch.long)
    # A token that both exclude, one that is all but excluded, and one that the base model alone excludes.
    for excluding in (says([0.0, 1.0, -math.inf]), says([0.0, 1.0, -300.0])):
        assert divergence_from_base(excluding, excluding, text)[0].tolist() == [0.0]
        assert np.isfinite(divergence_from_base(excluding, plain, text)).all()
    for broken in (says([0.0, math.nan, 0.0]), says([0.0, math.inf, 0.0])):
        for pair in ((plain, broken), (broken, plain), (broken, broken)):
            assert [x.tolist() for x in divergence_from_base(*pair, text)] == [[math.inf], [math.inf]]


def test_rounding_does_not_take_it_below_zero(texts):
    base = make_model(0)
    near = make_model(0)
    with torch.no_grad():
        near.wte.weight.add_(1e-7 * torch.randn(V, 8))
    kl, _ = divergence_from_base(base, near, texts)
    assert (kl >= 0).all() and kl.max() < 1e-6


def test_texts_longer_than_the_context_are_cut_to_it():
    base, tuned = make_model(0), make_model(1)
    texts = torch.tensor(np.random.default_rng(4).integers(V, size=(3, BLOCK + 6)))
    measured = divergence_from_base(base, tuned, texts)
    np.testing.assert_array_equal(measured, divergence_from_base(base, tuned, texts[:, : BLOCK + 1]))
    np.testing.assert_allclose(measured, expected_from(base, tuned, texts[:, : BLOCK + 1]), atol=2e-6)


@pytest.mark.parametrize(
    ("length", "batch_size", "sizes"), [(10, 8, [3, 3, 1]), (10, 2, [2, 2, 2, 1]), (40, 8, [1] * 7)]
)
def test_the_rows_of_one_call_are_limited(monkeypatch, length, batch_size, sizes):
    monkeypatch.setattr(forgetting, "ROWS", 30)
    seen = []
    model = lambda tokens: seen.append(len(tokens)) or torch.zeros(*tokens.shape, V)  # noqa: E731
    texts = torch.zeros(7, length + 1, dtype=torch.long)
    divergence_from_base(model, lambda tokens: torch.zeros(*tokens.shape, V), texts, batch_size)
    assert seen == sizes


def test_bfloat16_rounds_the_weights_and_not_the_logits(texts):
    """All logits lie around -60, as GPT-2's do: rounded to bfloat16 they would have steps of 1/4."""
    base, tuned = make_model(0), make_model(0)
    with torch.no_grad():
        for model in (base, tuned):
            model.ln_f.weight[0], model.ln_f.bias[0] = 0.0, 1.0  # one column of the head is added to every logit
            model.wte.weight[:, 0] = -60.0
        tuned.wte.weight[:, 1:] += 0.02 * torch.randn(V, 7)
    expected, _ = divergence_from_base(base, tuned, texts)
    kl, _ = divergence_from_base(cast_copy(base, torch.bfloat16), cast_copy(tuned, torch.bfloat16), texts)
    assert kl.dtype == np.float64
    np.testing.assert_allclose(kl, expected, rtol=0.5)
    assert expected.max() < 2e-3  # a step of 1/4 alone would add more than that
