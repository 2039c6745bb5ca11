"""The proof that this is GPT-2, tried on a small model: it passes when all is right, and each check can fail."""

import dataclasses
import hashlib
import re

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
from conftest import BLOCK, HEADS, LAYERS, VOCAB, WIDTH, official_file, write_model
from pretended import Pretended

from data.tokenizer import load_tokenizer
from model.gpt2 import GPT2
from model.hub import HUB
from model.pretrained import load_pretrained
from train.adamw import AdamW
from train.verify import __main__ as verify_command
from train.verify import published as verify
from train.verify.published import batch_tokens, cached_shakespeare, official, read_shakespeare

SECTIONS = ["the king saw", "a ship;\nher majesty", "my master sold", "three ropes and", "the end"]
PLAYS = "\n\n".join(SECTIONS)
PROMPT_TOKENS, PROMPT = (241, 286), "a barrel"
B, T = 2, 12


def reference_loss(w, inputs, targets):
    """GPT-2 in a few lines of torch float64 from the weights as OpenAI's file has them, for gradients."""
    x = w["wte.weight"][inputs] + w["wpe.weight"][: inputs.shape[1]]

    def norm(x, name):
        return F.layer_norm(x, (WIDTH,), w[f"{name}.weight"], w[f"{name}.bias"])

    def linear(x, name):
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    future = torch.ones(inputs.shape[1], inputs.shape[1]).triu(1).bool()
    for i in range(LAYERS):
        q, k, v = (
            torch.stack(part.split(WIDTH // HEADS, -1), 1)  # (B, H, T, D)
            for part in linear(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn").split(WIDTH, -1)
        )
        scores = (q @ k.mT / (WIDTH // HEADS) ** 0.5).masked_fill(future, -torch.inf)
        x = x + linear(torch.cat((scores.softmax(-1) @ v).unbind(1), -1), f"h.{i}.attn.c_proj")
        inner = F.gelu(linear(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc"), approximate="tanh")
        x = x + linear(inner, f"h.{i}.mlp.c_proj")
    log_p = (norm(x, "ln_f") @ w["wte.weight"].T).log_softmax(-1)
    return -log_p.gather(-1, targets[..., None]).mean()


def reference_greedy(w, tokens, new_tokens):
    """The continuation of `tokens`, each token from a NumPy float64 pass over all before it."""
    tokens = list(tokens)
    for _ in range(new_tokens):
        tokens.append(int(reference.logits(w, np.array([tokens]), LAYERS, HEADS)[0, -1].argmax()))
    return tokens


@pytest.fixture(scope="module")
def expected(official_weights, model_folder, tokenizer_folder):
    """What is right for the tests' model, from the reference in NumPy and from torch's own AdamW in float64."""
    w = {name: tensor.astype(np.float32).astype(np.float64) for name, tensor in official_weights.items()}
    tokenizer = load_tokenizer(tokenizer_folder)

    # Random weights write bytes that are often no text; this prompt's continuation is some.
    continuation = tokenizer.decode(reference_greedy(w, tokenizer.encode_ordinary(PROMPT), 5)[-5:])
    assert len(tokenizer.encode_ordinary(continuation)) == 5 and continuation.isprintable()
    batch = []
    for section in SECTIONS:
        batch += [VOCAB - 1, *tokenizer.encode_ordinary(section), *tokenizer.encode_ordinary("\n\n")]
    assert batch.count(VOCAB - 1) > 3 and len(batch) > B * T + 1
    batch = batch[: B * T + 1]
    inputs, targets = torch.tensor(batch[:-1]).view(B, T), torch.tensor(batch[1:]).view(B, T)
    leaves = {name: torch.tensor(tensor, requires_grad=True) for name, tensor in w.items()}
    optimizer = torch.optim.AdamW(leaves.values(), lr=0.02, weight_decay=0.5, betas=(0.9, 0.999), eps=1e-8)
    losses = []
    for _ in range(10):
        loss = reference_loss(leaves, inputs, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(reference.cross_entropy(w, inputs.numpy(), targets.numpy(), LAYERS, HEADS))
    return verify.Expected(
        sha256=hashlib.sha256((model_folder / "model.safetensors").read_bytes()).hexdigest(),
        parameters=sum(tensor.size for tensor in official_weights.values()),
        prompt_tokens=PROMPT_TOKENS,
        greedy_tokens=tuple(reference_greedy(w, PROMPT_TOKENS, 18)),
        prompt=PROMPT,
        continuation=continuation,
        batch_size=B,
        seq_len=T,
        batch_sha256=hashlib.sha256(",".join(map(str, batch)).encode()).hexdigest(),
        lr=0.02,
        weight_decay=0.5,
        losses=tuple(losses),
        tolerance=1e-4,
    )


CHECKS = {
    "weights": "sha256 of model.safetensors",
    "parameters": "parameters",
    "tokens": "greedy continuation of tokens",
    "text": "greedy continuation of '",
    "batch": "sha256 of the batch",
    "losses": "losses of 10 AdamW steps",
}


@pytest.fixture
def failed(command, monkeypatch, expected, model_folder, tmp_path):
    """Runs the command and returns the checks that failed, after a look at what it printed."""

    def call(model=model_folder, text=PLAYS, expected=expected, dtype="float32", device="cpu"):
        file = tmp_path / "plays.txt"
        file.write_text(text, encoding="utf-8")
        monkeypatch.setattr(verify, "official", lambda: expected)
        code, out, _ = command(
            verify_command.main, "--model", model, "--shakespeare", file, "--device", device, "--dtype", dtype
        )
        *lines, conclusion = out.splitlines()
        assert len(lines) == 3 * len(CHECKS)
        failures = set()
        for (name, title), first, wanted, found in zip(CHECKS.items(), lines[::3], lines[1::3], lines[2::3]):
            verdict, printed_title = first.split(maxsplit=1)
            assert printed_title.startswith(title)
            wanted, found = re.sub("^ +expected  ", "", wanted), re.sub("^ +found     ", "", found)
            if name != "losses":
                assert (wanted == found) == (verdict == "ok")
            assert verdict in ("ok", "FAILED")
            failures |= {name} if verdict == "FAILED" else set()
        assert code == (1 if failures else 0)
        assert conclusion.startswith(
            f"{len(failures)} of 6 checks FAILED" if failures else "all 6 checks passed: this is GPT-2"
        )
        return failures

    return call


def test_all_is_right(failed):
    assert failed() == set()


def test_all_is_right_on_a_device(failed):
    with Pretended() as gpu:
        assert not failed(device="cuda")
    # The model, its two prompts and the batch, and each text's luck and banned tokens; ten losses come back.
    assert len(gpu.sent) == 28 + 2 + 1 + 4 and gpu.waits.count("_local_scalar_dense") == 10


def test_line_ends_of_windows_are_the_same_text(failed):
    assert failed(text=PLAYS.replace("\n", "\r\n")) == set()


def test_what_is_printed(command, monkeypatch, expected, model_folder, tmp_path):
    """Expected and found, the numbers themselves, for a check that fails and for one that does not."""
    wrong = dataclasses.replace(expected, parameters=1234, losses=(7.0, *expected.losses[1:]))
    monkeypatch.setattr(verify, "official", lambda: wrong)
    (tmp_path / "plays.txt").write_text(PLAYS, encoding="utf-8")
    code, out, _ = command(verify_command.main, "--model", model_folder, "--shakespeare", tmp_path / "plays.txt")
    lines = out.splitlines()
    assert code == 1
    assert lines[0] == "ok      sha256 of model.safetensors"
    assert lines[1].split() == ["expected", expected.sha256] and lines[2].split() == ["found", expected.sha256]
    assert lines[3:6] == [
        "FAILED  parameters",
        "        expected  1,234",
        f"        found     {expected.parameters:,}",
    ]
    assert lines[15] == "FAILED  losses of 10 AdamW steps, each within 0.0001 nats (llm.c)"
    assert lines[16].split()[:3] == ["expected", "7.000000", f"{expected.losses[1]:.6f}"]
    found = [float(loss) for loss in lines[17].split()[1:]]
    assert found == pytest.approx(expected.losses, abs=1e-4)


# Something is wrong, and the checks that concern it say so; no other does.


def test_another_file_of_the_same_weights(failed, official_weights, tokenizer_folder, tmp_path):
    without_masks = {name: w.astype(np.float32) for name, w in official_weights.items()}
    assert failed(model=write_model(tmp_path / "model", without_masks, tokenizer_folder)) == {"weights"}


def test_one_position_too_many(failed, official_weights, tokenizer_folder, tmp_path):
    longer = official_file(official_weights)
    longer["wpe.weight"] = np.concatenate([longer["wpe.weight"], np.ones((1, WIDTH), np.float32)])
    folder = write_model(tmp_path / "model", longer, tokenizer_folder, n_positions=BLOCK + 1)
    assert failed(model=folder) == {"weights", "parameters"}


def test_one_perturbed_weight(failed, monkeypatch):
    def perturbed(folder):
        model = load_pretrained(folder)
        with torch.no_grad():
            model.h[1].attn.c_proj.weight[3, 5] += 20.0
        return model

    monkeypatch.setattr(verify, "load_pretrained", perturbed)
    assert failed() == {"tokens", "text", "losses"}


def test_each_greedy_check_fails_alone(failed, expected):
    last = (expected.greedy_tokens[-1] + 1) % VOCAB
    other_tokens = dataclasses.replace(expected, greedy_tokens=(*expected.greedy_tokens[:-1], last))
    assert failed(expected=other_tokens) == {"tokens"}
    other_text = dataclasses.replace(expected, continuation=expected.continuation[::-1])
    assert expected.continuation != expected.continuation[::-1]
    assert failed(expected=other_text) == {"text"}


def test_another_text(failed):
    assert failed(text="\n\n".join(["the king saw", "a ship,\nher majesty", *SECTIONS[2:]])) == {"batch", "losses"}
    # The same words, with one blank line less: one end of text less.
    assert failed(text=PLAYS.replace("\n\n", "\n", 1) + "\n\nmore") == {"batch", "losses"}


def test_a_head_that_gives_no_gradient(failed, monkeypatch):
    monkeypatch.setattr(GPT2, "unembed", lambda model, x: F.linear(x, model.wte.weight.detach()))
    assert failed() == {"losses"}


def test_a_head_of_its_own(failed, monkeypatch):
    def untied(folder):
        model = load_pretrained(folder)
        model.lm_head = torch.nn.Parameter(model.wte.weight.detach().clone())
        return model

    monkeypatch.setattr(verify, "load_pretrained", untied)
    monkeypatch.setattr(GPT2, "unembed", lambda model, x: F.linear(x, model.lm_head))
    assert failed() == {"parameters", "losses"}


class Coupled(AdamW):
    """Decay as part of the gradient: Adam with L2 regularisation."""

    def step(self):
        for p in self.parameters:
            p.grad += self.weight_decay * p.detach()
        decay, self.weight_decay = self.weight_decay, 0.0
        super().step()
        self.weight_decay = decay


class Uncorrected(AdamW):
    """The moments without bias correction, as after very many steps."""

    def step(self):
        self.steps = 10**6
        super().step()


class Frozen(AdamW):
    def step(self):
        pass


class Accumulating(AdamW):
    """The gradients of all steps so far."""

    def zero_grad(self):
        pass


@pytest.mark.parametrize("wrong", [Coupled, Uncorrected, Frozen, Accumulating])
def test_a_wrong_optimizer(failed, monkeypatch, wrong):
    monkeypatch.setattr(verify, "AdamW", wrong)
    assert failed() == {"losses"}


@pytest.mark.parametrize("setting", [{"betas": (0.9, 0.99)}, {"eps": 1e-2}, {"weight_decay": 0.0}, {"lr": 0.021}])
def test_a_wrong_setting_of_the_optimizer(failed, monkeypatch, setting):
    monkeypatch.setattr(
        verify, "AdamW", lambda parameters, lr, **rest: AdamW(parameters, **({"lr": lr} | rest | setting))
    )
    assert failed() == {"losses"}


@pytest.mark.parametrize("step", [0, 9])
def test_the_tolerance_on_both_sides(failed, expected, step):
    def off_by(difference):
        losses = list(expected.losses)
        losses[step] += difference
        return dataclasses.replace(expected, losses=tuple(losses), tolerance=0.1)

    for sign in (1, -1):
        assert failed(expected=off_by(sign * 0.095)) == set()
        assert failed(expected=off_by(sign * 0.105)) == {"losses"}


def test_a_loss_that_is_no_number_fails(failed, monkeypatch):
    monkeypatch.setattr(verify, "plain_gradients", lambda model, inputs, targets: float("nan"))
    assert failed() == {"losses"}


def test_bfloat16_is_bfloat16(failed, expected, monkeypatch):
    """Near the float32 losses, but not at them; and the text is written by a model in bfloat16."""
    written_in, original = [], verify.complete

    def note(model, *arguments, **options):
        written_in.append(model.wte.weight.dtype)
        return original(model, *arguments, **options)

    monkeypatch.setattr(verify, "complete", note)
    assert "losses" in failed(dtype="bfloat16")
    assert written_in == [torch.bfloat16] * 2
    assert "losses" not in failed(dtype="bfloat16", expected=dataclasses.replace(expected, tolerance=0.3))


# What is expected of GPT-2


def test_the_published_values():
    expected = official()
    V, T, L, C = 50257, 1024, 12, 768
    assert expected.parameters == V * C + T * C + L * (12 * C * C + 13 * C) + 2 * C
    assert expected.sha256 == HUB["gpt2"][2]
    assert expected.prompt_tokens == (464, 3290)
    words = "464 3290 373 1043 287 257 2214 1474 262 16246 286 2688 290 2688 27262 13 198 198 464 3290"
    assert expected.greedy_tokens == tuple(map(int, words.split()))
    assert expected.prompt == "Alan Turing theorized that computers would one day become"
    assert expected.continuation == " the most powerful machines on the planet."
    assert (expected.batch_size, expected.seq_len, expected.lr, expected.weight_decay) == (4, 64, 1e-4, 0.01)
    losses = "5.270007 4.059707 3.375123 2.800783 2.315382 1.849029 1.394656 0.999147 0.624080 0.376511"
    assert expected.losses == tuple(map(float, losses.split())) and expected.tolerance == 0.01
    assert expected.batch_sha256 == "0e6d4a3dc8e81638826e035e1660b685125c87d5fbe169b0a8b1d084dc2ed7a3"


# Wrong input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "no-such-folder"), "there is no model or folder 'no-such-folder'"),
        (("--model", "gpt2-large"), "nothing is known of gpt2-large"),
        (("--shakespeare", "no-such-file"), "there is no file 'no-such-file'; name Tiny Shakespeare"),
        ((), r"cannot fetch Tiny Shakespeare \(.*\); download https://raw.*input.txt.* --shakespeare FILE"),
        (("--device", "cuda:99"), "device 'cuda:99' is not available here"),
        (("--dtype", "float16"), "invalid choice: 'float16'"),
    ],
)
def test_wrong_input_is_one_line(command, model_folder, arguments, message):
    code, out, err = command(verify_command.main, "--model", model_folder, *arguments)
    assert (code, out) == (2, "")
    assert re.search(message, err) and err.startswith("error: ") and err.count("\n") == 1


def test_wrong_texts_and_models_are_one_line(command, monkeypatch, expected, model_folder, tmp_path):
    def error(content: bytes, known) -> str:
        (tmp_path / "plays.txt").write_bytes(content)
        monkeypatch.setattr(verify, "official", lambda: known)
        code, out, err = command(verify_command.main, "--model", model_folder, "--shakespeare", tmp_path / "plays.txt")
        assert (code, out, err.count("\n")) == (2, "", 1)
        return err

    assert "plays.txt is not UTF-8 (byte 2)" in error(b"ab\xff", expected)
    assert f"tokens, the batch needs {B * T + 1}; name Tiny Shakespeare" in error(b"the king", expected)
    text = PLAYS.encode()
    assert "is no GPT-2 124M: its vocabulary of 300 and context of 24" in error(text, official())
    assert "too small" in error(text, dataclasses.replace(expected, seq_len=BLOCK + 1))
    assert "too small" in error(text, dataclasses.replace(expected, prompt_tokens=(0, VOCAB)))


def test_a_window_as_long_as_the_context_is_no_wrong_input(failed, expected):
    """The same tokens as one window: other losses, but all checks are made."""
    assert B * T == BLOCK
    assert failed(expected=dataclasses.replace(expected, batch_size=1, seq_len=BLOCK)) == {"losses"}


def test_a_tokenizer_of_another_model(command, monkeypatch, expected, official_weights, tokenizer_folder, tmp_path):
    smaller = official_file(official_weights)
    smaller["wte.weight"] = smaller["wte.weight"][:-1]
    folder = write_model(tmp_path / "model", smaller, tokenizer_folder, vocab_size=VOCAB - 1)
    (tmp_path / "plays.txt").write_text(PLAYS, encoding="utf-8")
    monkeypatch.setattr(verify, "official", lambda: expected)
    code, _, err = command(verify_command.main, "--model", folder, "--shakespeare", tmp_path / "plays.txt")
    assert code == 2 and "config.json says 299 tokens, the tokenizer has 300" in err


# Tiny Shakespeare


def test_the_batch_has_an_end_of_text_before_each_section(tokenizer_folder):
    tokenizer = load_tokenizer(tokenizer_folder)
    ids = batch_tokens("one\ntwo\n\nthree\n\n\nfour", tokenizer, 14)
    assert len(ids) == 14 and tokenizer.decode(ids).startswith("<|endoftext|>one\ntwo\n\n<|endoftext|>three")
    whole = [VOCAB - 1, *tokenizer.encode_ordinary("one\n\n")]
    assert batch_tokens("one", tokenizer, len(whole)) == whole  # just long enough
    with pytest.raises(ValueError, match=f"the text has {len(whole)} tokens, the batch needs {len(whole) + 1};"):
        batch_tokens("one", tokenizer, len(whole) + 1)


def test_fetched_once_then_from_the_cache(tmp_path):
    source, cache = tmp_path / "input.txt", tmp_path / "new" / "cache"
    source.write_bytes(b"First Citizen:\n")
    sha256 = hashlib.sha256(b"First Citizen:\n").hexdigest()
    file = cached_shakespeare(cache, source.as_uri(), sha256)
    assert file.read_bytes() == b"First Citizen:\n" and list(cache.iterdir()) == [file]
    source.unlink()
    assert cached_shakespeare(cache, source.as_uri(), sha256) == file


def test_the_cache_is_where_the_book_is(tmp_path):
    """The tests' home: see conftest.py."""
    (tmp_path / "cache" / "gulliver").mkdir(parents=True)
    (tmp_path / "cache" / "gulliver" / "tinyshakespeare.txt").write_text("First Citizen:\n", encoding="utf-8")
    assert read_shakespeare(None) == "First Citizen:\n"


def test_something_else_is_not_kept(tmp_path):
    (tmp_path / "input.txt").write_bytes(b"<html>log in first</html>")
    with pytest.raises(ValueError, match="is not Tiny Shakespeare: its sha256 is .*, not 86c4e6aa.*--shakespeare FILE"):
        cached_shakespeare(tmp_path / "cache", (tmp_path / "input.txt").as_uri())
    assert not (tmp_path / "cache").exists()
