"""The checks of a device against the CPU pass on a pretended device, and each can fail."""

import pytest
import torch
from pretended import Pretended

from model.gpt2 import GPT2, GPT2Config
from model.speed.attention import fused_attention
from train.speed.recorded import RecordedGradients
from train.verify import against_cpu as checks

SMALL = GPT2Config(vocab_size=300, block_size=24, n_layer=2, n_head=3, n_embd=24)


def on_device(tensor):
    return tensor.device.type == "cuda"


@pytest.fixture
def failed(monkeypatch):
    """Runs all checks on a pretended GPU; returns the titles of those that failed."""
    torch.manual_seed(1)
    models = [GPT2(SMALL, fused_attention).eval() for _ in range(2)]
    for p in models[0].parameters():  # a trained model is sure of some tokens
        p.data *= 3
    monkeypatch.setattr(checks, "models", lambda: models)

    def call():
        with Pretended():
            done = list(checks.against_cpu(torch.device("cuda:0")))
        assert len(done) == 2 * (2 + 4 * 3) + 4 + 3 + 1
        return [check.title for check in done if not check.passed]

    return call


def test_all_is_right_on_a_device(failed):
    assert failed() == []


def changed(monkeypatch, name, fault):
    """Puts `fault(what the function of that name returns, its arguments)` in its place, on the device alone."""
    original = getattr(checks, name)

    def other(*given, **settings):
        found = original(*given, **settings)
        places = [it.wte.weight if isinstance(it, GPT2) else it for it in given if isinstance(it, (torch.Tensor, GPT2))]
        there = any(map(on_device, places)) or torch.device("cuda:0") in [
            it for it in given if type(it) is torch.device
        ]
        return fault(found) if there else found

    monkeypatch.setattr(checks, name, other)


def with_fault(way, fault):
    """The gradients of `way`, of which `fault(model, loss)` changes something on the device; it returns the loss."""

    def gradients(model, *batch):
        loss = way(model, *batch)
        return fault(model, loss) if on_device(batch[0]) else loss

    return gradients


def scaled(model, loss):
    model.h[1].attn.c_proj.bias.grad *= 1.1
    return loss


def all_scaled(model, loss):
    for p in model.parameters():
        p.grad *= 1.1
    return loss


FAULTS = {scaled: "the worst", all_scaled: "all", lambda model, loss: loss * 1.01: "the loss"}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("plain", [True, False])
def test_a_wrong_gradient(failed, monkeypatch, fault, plain):
    if plain:
        monkeypatch.setattr(checks, "plain_gradients", with_fault(checks.plain_gradients, fault))
    else:
        fast = checks.fast_gradients
        monkeypatch.setattr(checks, "fast_gradients", lambda *settings: with_fault(fast(*settings), fault))
    titles = [title for title in failed() if title.endswith(FAULTS[fault])]
    ways = ["plain"] if plain else ["fast"] if fault is scaled else ["fast", "fast, bfloat16", "bfloat16 in parts"]
    for way in ways:
        assert sum(f", {way}: " in title for title in titles) == 2, titles
    assert plain == any("plain" in title for title in titles)


def test_a_recorded_graph_that_keeps_its_first_batch(failed, monkeypatch):
    original, first = RecordedGradients.__call__, {}
    monkeypatch.setattr(RecordedGradients, "__call__", lambda g, m, *b: original(g, m, *first.setdefault((g, m), b)))
    titles = failed()
    assert len(titles) >= 2 * 2 * 2 and all("fast" in title for title in titles)


def test_wrong_logits(failed, monkeypatch):
    for share, expected in ((1.1, 4), (1.01, 2)):  # float32 alone notices one per cent
        with monkeypatch.context() as patch:
            changed(patch, "logits_on", lambda forward: lambda tokens: share * forward(tokens))
            titles = failed()
            assert len(titles) == expected and all(title.startswith("logits of") for title in titles)


@pytest.mark.parametrize("kind", ["AdamW", "FusedAdamW"])
def test_a_wrong_optimizer(failed, monkeypatch, kind):
    original = getattr(checks, kind)

    class Uncorrected(original):
        def __init__(self, parameters, **settings):
            super().__init__(parameters, **settings)
            self.steps = 10**6 * on_device(self.parameters[0])

    def other(**wrong):
        def made(parameters, **settings):
            parameters = list(parameters)
            return original(parameters, **settings | (wrong if on_device(parameters[0]) else {}))

        return made

    for wrong in (Uncorrected, other(eps=2e-8), other(weight_decay=0.11), other(matrices_only=False)):
        with monkeypatch.context() as patch:
            patch.setattr(checks, kind, wrong)
            assert failed() == [f"8 steps of {kind}"]


@pytest.mark.parametrize(
    "name, fault, expected",
    [
        ("sample_token", lambda ids: (ids + 1) % 50257, ["draws, top-k None", "draws, top-k 50"]),
        ("text_loss", lambda loss: 1.002 * loss, ["loss on a text"]),
        ("text_loss", lambda loss: loss - 0.01, ["loss on a text"]),
        ("text_loss", lambda loss: float("nan"), ["loss on a text"]),
        ("divergence_from_base", lambda means: (means[0] * 0.98, means[1]), ["divergence"]),
        ("complete", lambda ids: torch.cat([ids[:, :-1], (ids[:, -1:] + 1) % 300], 1), ["greedy texts"]),
    ],
)
def test_a_wrong_draw_measure_or_text(failed, monkeypatch, name, fault, expected):
    changed(monkeypatch, name, fault)
    titles = failed()
    assert len(titles) == len(expected) and all(map(str.startswith, titles, expected)), titles


def test_what_does_not_repeat_is_said_and_is_no_failure(failed, monkeypatch):
    original, said, calls = checks.Check, {}, []
    monkeypatch.setattr(checks, "Check", lambda *given: said.update([given[::2][:2]]) or original(*given))
    assert failed() == [] and said["five training steps, twice"] == "bit for bit the same"
    steps = checks.finetune

    def another(model, *rest):
        yield from steps(model, *rest)
        calls.append(1)
        model.wte.weight.data += 1e-3 * len(calls)

    monkeypatch.setattr(checks, "finetune", another)
    assert failed() == [] and said["five training steps, twice"].endswith(" apart")
