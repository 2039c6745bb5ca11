"""The proof that this is GPT-2, tried on a small model: it passes when all is right, and each check can fail."""

import dataclasses
import hashlib
import re

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
from conftest import BLOCK, HEADS, LAYERS, VOCAB, official_file, write_model
from pretended import Pretended

from data.tokenizer import load_tokenizer
from model.gpt2 import GPT2
from model.hub import HUB
from model.pretrained import load_pretrained
from train.adamw import AdamW
from train.loop import next_token_loss
from train.verify import __main__ as verify_command
from train.verify import against_cpu
from train.verify import published as verify
from train.verify.published import GPT2_124M, batch_tokens, read_shakespeare

SECTIONS = ["the king saw", "a ship;\nher majesty", "my master sold", "three ropes and", "the end"]
PLAYS = "\n\n".join(SECTIONS)
PROMPT_TOKENS, PROMPT = (241, 286), "a barrel"
B, T = 2, 12


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
    encoded = [tokenizer.encode_ordinary(section) + tokenizer.encode_ordinary("\n\n") for section in SECTIONS]
    batch = sum(([VOCAB - 1] + section for section in encoded), [])[: B * T + 1]
    assert batch.count(VOCAB - 1) == 2
    inputs, targets = torch.tensor(batch[:-1]).view(B, T), torch.tensor(batch[1:]).view(B, T)
    model, losses = load_pretrained(model_folder).double(), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.5, betas=(0.9, 0.999), eps=1e-8)
    for _ in range(10):
        optimizer.zero_grad()
        loss = next_token_loss(model, inputs, targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(reference.cross_entropy(w, inputs.numpy(), targets.numpy(), LAYERS, HEADS))
    return verify.Published(
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
def verified(command, monkeypatch, expected, model_folder, tmp_path):
    """Runs the command: (exit code, output, standard error)."""

    def call(model=model_folder, text=PLAYS, expected=expected, dtype="float32", device="cpu"):
        file = tmp_path / "plays.txt"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        monkeypatch.setattr(verify, "GPT2_124M", expected)
        flags = ("--model", model, "--shakespeare", file, "--device", device, "--dtype", dtype)
        return command(verify_command.main, *flags)

    return call


@pytest.fixture
def failed(verified):
    """Runs the command and returns the names of the checks that failed."""

    def call(**changes):
        code, printed, err = verified(**changes)
        checks = re.findall("^(ok|FAILED) +(.*)\n +expected .*\n +found .*\n", printed, re.MULTILINE)
        assert len(checks) == len(CHECKS), err
        assert all(title.startswith(start) for (_, title), start in zip(checks, CHECKS.values()))
        failures = {name for name, (verdict, _) in zip(CHECKS, checks) if verdict == "FAILED"}
        assert code == (1 if failures else 0)
        end = f"{len(failures)} of 6 checks FAILED" if failures else "all 6 checks passed: this is GPT-2"
        assert printed.splitlines()[-1].startswith(end)
        return failures

    return call


def test_all_is_right(failed):
    assert failed(text=PLAYS.replace("\n", "\r\n")) == set()  # read as LF


@pytest.fixture
def checked(monkeypatch):
    """The checks against the CPU, replaced by those of the list."""
    found = []
    monkeypatch.setattr(against_cpu, "against_cpu", lambda device: iter(found))
    return found


def test_all_is_right_on_a_device(failed, checked):
    with Pretended() as gpu:
        assert not failed(device="cuda")
    # The model, its two prompts and the batch, and each text's random numbers and banned tokens; ten losses come back.
    assert len(gpu.sent) == 28 + 2 + 1 + 4 and gpu.waits.count("_local_scalar_dense") == 10


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("network", [True, False])
def test_a_device_is_compared_with_the_cpu_first(verified, checked, monkeypatch, right, network):
    """With the published checks, or alone where nothing can be fetched. The CPU is not compared with itself."""
    checked += [verify.Check("draws", "0", "0", True), verify.Check("updates", "0", "1", right)]
    if not network:
        monkeypatch.setattr(verify, "read_shakespeare", unreachable)
    with Pretended():
        code, printed, err = verified(device="cuda")
    lines, total = printed.splitlines(), 8 if network else 2
    assert code == (not right) and lines[0] == "ok      draws" and f"{'ok' if right else 'FAILED':8}updates" in lines
    assert network or lines[-2] == "the published checks are left out: no network"
    if not right:
        assert lines[-1].startswith(f"1 of {total} checks FAILED")
    elif network:
        assert lines[-1] == "all 8 checks passed: this is GPT-2, and cuda computes it as others do"
    else:
        assert lines[-1] == "all 2 checks passed: cuda computes what the CPU does"
    code, printed, err = verified()
    assert (code, "updates" in printed) == ((0, False) if network else (2, False))
    assert network or err == "error: no network\n"


def unreachable(*_):
    raise ConnectionError("no network")


def test_what_is_printed(verified, expected):
    """Expected and found, the numbers themselves, for a check that fails and for one that does not."""
    wrong = dataclasses.replace(expected, parameters=1234, losses=(7.0, *expected.losses[1:]))
    lines = verified(expected=wrong)[1].splitlines()
    assert lines[0] == "ok      sha256 of model.safetensors" and lines[1].split() == ["expected", expected.sha256]
    assert lines[2].split() == ["found", expected.sha256]
    assert lines[3:5] == ["FAILED  parameters", "        expected  1,234"]
    assert lines[5] == f"        found     {expected.parameters:,}"
    assert lines[15] == "FAILED  losses of 10 AdamW steps, each within 0.0001 nats (llm.c)"
    assert lines[16].split()[:3] == ["expected", "7.000000", f"{expected.losses[1]:.6f}"]
    assert [float(loss) for loss in lines[17].split()[1:]] == pytest.approx(expected.losses, abs=1e-4)


# Something is wrong, and the checks that concern it say so; no other does.


def test_another_file_and_one_position_too_many(failed, official_weights, tokenizer_folder, tmp_path):
    without_masks = {name: w.astype(np.float32) for name, w in official_weights.items()}
    assert failed(model=write_model(tmp_path / "same", without_masks, tokenizer_folder)) == {"weights"}
    longer = {name: np.pad(w, ((0, 1), (0, 0))) if name == "wpe.weight" else w for name, w in without_masks.items()}
    folder = write_model(tmp_path / "longer", longer, tokenizer_folder, n_positions=BLOCK + 1)
    assert failed(model=folder) == {"weights", "parameters"}


def test_one_perturbed_weight(failed, monkeypatch, model_folder):
    model = load_pretrained(model_folder)
    with torch.no_grad():
        model.h[1].attn.c_proj.weight[3, 5] += 20.0
    monkeypatch.setattr(verify, "load_pretrained", lambda folder: model)
    assert failed() == {"tokens", "text", "losses"}


def test_each_greedy_check_fails_alone(failed, expected):
    last = (expected.greedy_tokens[-1] + 1) % VOCAB
    for name, change in (
        ("tokens", {"greedy_tokens": (*expected.greedy_tokens[:-1], last)}),
        ("text", {"continuation": expected.continuation[::-1]}),
    ):
        assert failed(expected=dataclasses.replace(expected, **change)) == {name}


def test_another_text(failed):
    assert failed(text="\n\n".join(["the king saw", "a ship,\nher majesty", *SECTIONS[2:]])) == {"batch", "losses"}
    # The same words, with one blank line less: one end of text less.
    assert failed(text=PLAYS.replace("\n\n", "\n", 1) + "\n\nmore") == {"batch", "losses"}


def test_a_head_that_gives_no_gradient(failed, monkeypatch):
    monkeypatch.setattr(GPT2, "unembed", lambda model, x: F.linear(x, model.wte.weight.detach()))
    assert failed() == {"losses"}


@pytest.mark.parametrize("wrong", [{"betas": (0.9, 0.99)}, {"eps": 1e-2}, {"weight_decay": 0.0}, {"lr": 0.021}])
def test_a_wrong_optimizer(failed, monkeypatch, wrong):
    monkeypatch.setattr(verify, "AdamW", lambda parameters, lr, **rest: AdamW(parameters, **{"lr": lr} | rest | wrong))
    assert failed() == {"losses"}


@pytest.mark.parametrize("step", [0, 9])
def test_the_tolerance_on_both_sides(failed, expected, step):
    for difference, failures in ((0.095, set()), (0.105, {"losses"}), (-0.105, {"losses"})):
        losses = list(expected.losses)
        losses[step] += difference
        assert failed(expected=dataclasses.replace(expected, losses=tuple(losses), tolerance=0.1)) == failures


def test_a_loss_that_is_no_number_fails(failed, monkeypatch):
    monkeypatch.setattr(verify, "plain_gradients", lambda model, inputs, targets: float("nan"))
    assert failed() == {"losses"}


def test_bfloat16_is_bfloat16(failed, expected, monkeypatch):
    """Near the float32 losses, but not at them; and the text is written by a model in bfloat16."""
    written_in, original = [], verify.cast_copy
    monkeypatch.setattr(verify, "cast_copy", lambda *asked: written_in.append(original(*asked)) or written_in[-1])
    assert "losses" in failed(dtype="bfloat16")
    assert written_in[0].wte.weight.dtype == torch.bfloat16
    assert "losses" not in failed(dtype="bfloat16", expected=dataclasses.replace(expected, tolerance=0.3))


def test_the_published_values():
    V, T, L, C = 50257, 1024, 12, 768
    assert GPT2_124M.parameters == V * C + T * C + L * (12 * C * C + 13 * C) + 2 * C
    assert GPT2_124M.sha256 == HUB["gpt2"][2] and len(GPT2_124M.losses) == 10 and GPT2_124M.tolerance == 0.01
    # One wrong digit would fail a correct model.
    shown = "\n".join(f"{name} {value}" for name, value in dataclasses.asdict(GPT2_124M).items())
    digest = hashlib.sha256(shown.encode()).hexdigest()
    assert digest == "581f7c98e93de3612dd7138444018dcff7e0380cb618ddf52ebd7596ec1f461e"


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


def test_wrong_texts_and_models_are_one_line(verified, expected, official_weights, tokenizer_folder, tmp_path):
    smaller = official_file(official_weights)
    smaller["wte.weight"] = smaller["wte.weight"][:-1]
    folder = write_model(tmp_path / "model", smaller, tokenizer_folder, vocab_size=VOCAB - 1)
    for changes, message in (
        ({"text": b"ab\xff"}, "plays.txt is not UTF-8 (byte 2)"),
        ({"text": "the king"}, f"tokens, the batch needs {B * T + 1}; name Tiny Shakespeare"),
        ({"expected": GPT2_124M}, "is no GPT-2 124M: its vocabulary of 300 and context of 24"),
        ({"expected": dataclasses.replace(expected, seq_len=BLOCK + 1)}, "too small"),
        ({"expected": dataclasses.replace(expected, prompt_tokens=(0, VOCAB))}, "too small"),
        ({"model": folder}, "config.json says 299 tokens, the tokenizer has 300"),
    ):
        code, printed, err = verified(**changes)
        assert (code, printed, err.count("\n")) == (2, "", 1) and message in err


def test_the_batch_has_an_end_of_text_before_each_section(tokenizer_folder):
    tokenizer = load_tokenizer(tokenizer_folder)
    ids = batch_tokens("one\ntwo\n\nthree\n\n\nfour", tokenizer, 14)
    assert len(ids) == 14 and tokenizer.decode(ids).startswith("<|endoftext|>one\ntwo\n\n<|endoftext|>three")
    whole = [VOCAB - 1, *tokenizer.encode_ordinary("one\n\n")]
    assert batch_tokens("one", tokenizer, len(whole)) == whole  # just long enough
    with pytest.raises(ValueError, match=f"the text has {len(whole)} tokens, the batch needs {len(whole) + 1};"):
        batch_tokens("one", tokenizer, len(whole) + 1)


def test_tiny_shakespeare_is_checked_and_kept_where_the_book_is(tmp_path, monkeypatch):
    """The tests' home: see conftest.py."""
    (tmp_path / "input.txt").write_bytes(b"First Citizen:\r\n")
    monkeypatch.setattr(verify, "SHAKESPEARE_URL", (tmp_path / "input.txt").as_uri())
    with pytest.raises(ValueError, match="is not Tiny Shakespeare: its sha256 is .*, not 86c4e6aa.*--shakespeare FILE"):
        read_shakespeare(None)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(verify, "SHAKESPEARE_SHA256", hashlib.sha256(b"First Citizen:\r\n").hexdigest())
    assert read_shakespeare(None) == "First Citizen:\n"
    assert (tmp_path / "cache" / "gulliver" / "tinyshakespeare.txt").read_bytes() == b"First Citizen:\r\n"
