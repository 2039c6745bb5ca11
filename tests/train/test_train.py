"""The loop, and the experiment from end to end on a tiny model in the official layout."""

import contextlib
import io
import json
import math
import re
import shutil
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import BLOCK, VOCAB, make_text, official_file, write_model

import evaluate.__main__ as evaluate_command
import train.__main__ as train_command
from data.batches import sample_batch
from data.settings import Sampling, Settings, Training
from data.tokenizer import copy_tokenizer, load_tokenizer
from evaluate.baseline import open_baseline
from evaluate.loss import text_loss
from evaluate.ratio import frequent_token_ratio
from evaluate.results import LEVERS_FILE, TITLES, find_runs, read_result
from evaluate.table import terminal_summary
from model.gpt2 import GPT2, GPT2Config
from model.hub import MODEL_FILES
from model.pretrained import load_pretrained, read_config, save_pretrained
from model.sampling import complete
from train import sweep
from train.adamw import AdamW
from train.experiment import experiment
from train.loop import Diverged, finetune, next_token_loss
from train.run import jobs
from train.run.run import notes_on

LEARNING = ("--batch-size", 8, "--samples", 25, "--eval-sequences", 12, "--eval-tokens", 10)


@pytest.fixture
def tokens(tokenizer_folder):
    return torch.tensor(load_tokenizer(tokenizer_folder).encode_ordinary(make_text(2000, seed=6)))


def test_the_loop_is_the_definition(model_folder, tokens):
    """The same four steps with torch's own optimizer, in float64: the losses and the final weights are equal."""
    ours, theirs = (load_pretrained(model_folder).double() for _ in range(2))
    settings = Training(samples=4, batch_size=3, seq_len=7, seed=9)
    losses = list(finetune(ours, tokens, AdamW(ours.parameters(), 0.01, weight_decay=0.2), settings))
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.2, betas=(0.9, 0.999), eps=1e-8)
    expected = []
    for step in range(4):
        inputs, targets = sample_batch(tokens, 3, 7, 9, step)
        loss = F.cross_entropy(theirs(inputs).transpose(1, 2), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert losses == pytest.approx(expected, abs=1e-10)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters()):
        # 1e-8, not 1e-10: where a gradient is next to nothing, AdamW's division makes much of rounding.
        torch.testing.assert_close(p, q, rtol=0, atol=1e-8, msg=name)
    assert not ours.training


def test_the_exercises_settings_are_the_defaults(model_folder, tokens, monkeypatch):
    asked = []

    def note(tokens, batch_size, seq_len, seed, step):
        asked.append((batch_size, seq_len, seed, step))
        return sample_batch(tokens, 2, 8, seed, step)

    monkeypatch.setattr("train.loop.sample_batch", note)
    model = load_pretrained(model_folder)
    list(finetune(model, tokens, AdamW(model.parameters(), 1e-4), Training(samples=2)))
    assert asked == [(16, 256, 0, 0), (16, 256, 0, 1)]


# One idea of the loop each.


def test_the_loss_is_a_mean_in_nats():
    """The targets have probabilities of 1/2 and 1/4."""
    model = lambda inputs: torch.tensor([0.5, 0.25, 0.25]).log().expand(*inputs.shape, 3)  # noqa: E731
    inputs, targets = torch.zeros(2, 2, dtype=torch.long), torch.tensor([[0, 1], [0, 1]])
    assert next_token_loss(model, inputs, targets).item() == pytest.approx(1.5 * math.log(2), abs=1e-6)


def test_the_loss_has_a_gradient():
    """It is softmax minus one-hot, divided by the number of tokens."""
    logits = torch.zeros(1, 2, 4, requires_grad=True)
    next_token_loss(lambda inputs: logits, torch.zeros(1, 2, dtype=torch.long), torch.tensor([[3, 0]])).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0] * 8, torch.tensor([[1.0, 1.0, 1.0, -3.0], [-3.0, 1.0, 1.0, 1.0]]))


class Watch:
    """A small model in the loop. It notes each batch that is drawn, and each call of the gradients, which give losses
    of 5, 4, 3 ... and a gradient of 1 for every number."""

    def __init__(self, monkeypatch, tokens, samples=3, begun=0, loss=5.0, gradient=1.0, at=None):
        self.drawn, self.given, self.training, self.clean = [], [], [], []
        self.model = GPT2(GPT2Config(VOCAB, BLOCK, 1, 1, 4))
        self.optimizer = AdamW(self.model.parameters(), 0.01)
        self.optimizer.steps = begun

        def draw(tokens, batch_size, seq_len, seed, step):
            self.drawn.append((batch_size, seq_len, seed, step))
            return sample_batch(tokens, batch_size, seq_len, seed, step)

        def gradients(model, inputs, targets):
            self.given.append((inputs, targets))
            self.training.append(model.training)
            self.clean.append(all(p.grad is None or not p.grad.any() for p in model.parameters()))
            odd = at is not None and len(self.given) > at
            for p in model.parameters():
                p.grad = torch.full_like(p, gradient if odd or at is None else 1.0)
            return loss if odd else 6.0 - len(self.given)

        monkeypatch.setattr("train.loop.sample_batch", draw)
        settings = Training(samples, batch_size=2, seq_len=4, seed=9)
        self.losses = finetune(self.model, tokens, self.optimizer, settings, gradients)

    def weights(self):
        return [p.detach().clone() for p in self.model.parameters()]


@pytest.fixture
def watch(monkeypatch, tokens):
    return lambda **changes: Watch(monkeypatch, tokens, **changes)


def test_each_step_has_its_own_batch(watch):
    w = watch()
    list(w.losses)
    assert [step for *_, step in w.drawn] == [0, 1, 2]


def test_a_run_goes_on_where_it_stopped(watch):
    w = watch(samples=4, begun=2)
    list(w.losses)
    assert [step for *_, step in w.drawn] == [2, 3]


def test_batches_are_drawn_with_the_settings(watch):
    w = watch()
    list(w.losses)
    assert {settings[:3] for settings in w.drawn} == {(2, 4, 9)}


class Seen(Exception):
    """The loop is stopped here, with what is to be looked at."""


def test_batches_are_on_the_models_device(tokens):
    """On torch's device meta, which has shapes and no numbers."""

    def gradients(model, inputs, targets):
        raise Seen(inputs.device.type, targets.device.type)

    model = GPT2(GPT2Config(VOCAB, BLOCK, 1, 1, 4)).to("meta")
    settings = Training(1, batch_size=2, seq_len=4)
    with pytest.raises(Seen) as seen:
        next(finetune(model, tokens, AdamW(model.parameters(), 0.01), settings, gradients))
    assert seen.value.args == ("meta", "meta")


def test_gradients_get_the_batch(watch, tokens):
    w = watch()
    list(w.losses)
    assert len(w.given) == 3
    for step, batch in enumerate(w.given):
        assert all(map(torch.equal, batch, sample_batch(tokens, 2, 4, 9, step)))


def test_the_loss_of_gradients_is_yielded(watch):
    assert list(watch().losses) == [5.0, 4.0, 3.0]


def test_a_step_uses_the_gradients(watch):
    w = watch()
    before = w.weights()
    list(w.losses)
    assert not any(map(torch.equal, before, w.weights()))


def test_gradients_are_forgotten_after_each_step(watch):
    w = watch()
    list(w.losses)
    assert w.clean == [True] * 3


def test_the_step_is_done_when_its_loss_comes(watch):
    w = watch()
    assert [w.optimizer.steps for _ in w.losses] == [1, 2, 3]


def test_the_model_is_in_training_mode_in_the_loop(watch):
    w = watch()
    w.model.eval()
    list(w.losses)
    assert w.training == [True] * 3


def test_the_model_is_in_eval_mode_after_the_loop(watch):
    w = watch()
    list(w.losses)
    assert not w.model.training


def test_the_model_is_in_eval_mode_after_an_early_end(watch):
    w = watch()
    next(w.losses)
    w.losses.close()
    assert not w.model.training


@pytest.mark.parametrize(
    ("what", "odd"),
    [("loss", {"loss": math.nan}), ("loss", {"loss": math.inf}), ("gradient", {"gradient": math.inf})],
    ids=["nan", "inf", "gradient"],
)
def test_what_is_not_finite_ends_the_loop(watch, what, odd):
    """In the second step. A loss of NaN comes with finite gradients here: it is looked at by itself."""
    w = watch(at=1, **odd)
    next(w.losses)
    with pytest.raises(Diverged) as stopped:
        list(w.losses)
    assert stopped.value.what == what


def test_it_ends_before_the_step(watch):
    w = watch(at=1, loss=math.nan)
    next(w.losses)
    before = w.weights()
    with pytest.raises(Diverged):
        list(w.losses)
    assert w.optimizer.steps == 1 and all(map(torch.equal, before, w.weights()))


def test_dropout_is_off_unless_the_model_has_one(model_folder, tokens):
    def losses(dropout, torch_seed):
        torch.manual_seed(torch_seed)
        model = load_pretrained(model_folder, dropout=dropout)
        return list(finetune(model, tokens, AdamW(model.parameters(), 1e-3), Training(3, batch_size=4, seq_len=8)))

    assert losses(0.0, 1) == losses(0.0, 2)
    assert losses(0.3, 1) != losses(0.0, 1) and losses(0.3, 1) != losses(0.3, 2) and losses(0.3, 1) == losses(0.3, 1)


def test_a_loss_that_is_no_number_stops_the_loop(model_folder, tokens):
    model, losses = load_pretrained(model_folder), []
    with pytest.raises(Diverged):
        for loss in finetune(
            model, tokens, AdamW(model.parameters(), 1e30), Training(samples=20, batch_size=2, seq_len=8)
        ):
            losses.append(loss)
    assert 1 <= len(losses) < 20 and all(map(math.isfinite, losses))


# From end to end


@pytest.fixture(scope="module")
def swept(small_run, tmp_path_factory):
    """One sweep for all tests that read it, and what it printed; no test writes to its folder."""
    out = tmp_path_factory.mktemp("swept") / "sweep"
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        arguments = (*small_run, *LEARNING, "--lrs", "1e-5", "1e-2", "1e-3", "--out", out)
        patch.setattr(sys, "argv", ["command", *map(str, arguments)])
        sweep.main()
    return out, printed.getvalue()


def test_the_sweep_is_complete_and_tells_the_story(swept, model_folder, text_file):
    out, printed = swept
    names = {"lr-1e-2", "lr-1e-3", "lr-1e-5", "report.html", "table.md", *TITLES} - {LEVERS_FILE}
    assert {path.name for path in out.iterdir()} == names
    assert terminal_summary(find_runs([out])) in printed and f"\n{out / 'table.md'}\n" in printed
    results = {}
    for folder in out.glob("lr-*"):
        assert {path.name for path in folder.iterdir()} == {"README.md", "result.json", *MODEL_FILES}
        result = results[folder.name] = read_result(folder)
        assert len(result["train_loss"]) == result["samples"] == 25
        settings = result["settings"]
        assert settings["model"] == str(model_folder) and len(settings["model_identity"]["sha256"]) == 64
        assert settings["text_sha256"] and settings["batch_size"] == 8 and settings["eval_sequences"] == 12
        assert {"torch", "python", "device", "dtype", "seconds"} <= result["environment"].keys()
        seconds = result["environment"]["seconds"]
        assert list(seconds) == ["before", "training", "checkpoints", "after"] and min(seconds.values()) > 0
        assert len(result["after"]["shares"]) == 12 and len(result["after"]["texts"]) == 8
    big, middle, small = (results[f"lr-1e-{n}"] for n in (2, 3, 5))
    assert big["before"]["ratio"] == middle["before"]["ratio"] == small["before"]["ratio"]
    assert big["before"]["texts"] == small["before"]["texts"]
    assert big["train_loss"][0] == middle["train_loss"][0] == small["train_loss"][0]  # same weights, same first batch
    last = {name: np.mean(r["train_loss"][-5:]) for name, r in results.items()}
    assert last["lr-1e-2"] < last["lr-1e-3"] < last["lr-1e-5"]
    assert last["lr-1e-2"] < big["train_loss"][0] - 1
    tokens = load_tokenizer(model_folder).encode_ordinary(text_file.read_text(encoding="utf-8").strip())
    counts = np.bincount(tokens, minlength=VOCAB)
    assert big["in_sample_ratio"] == pytest.approx(np.sort(counts)[-100:].sum() / len(tokens), abs=1e-12)


def test_one_run_equals_its_part_of_the_sweep(swept, command, small_run, tmp_path):
    out, _ = swept
    run = tmp_path / "alone"
    code, printed, err = command(train_command.main, "--lr", "1e-3", *small_run, *LEARNING, "--out", run)
    assert code == 0 and "\n1e-3 done in " in printed and "\n1e-3  " in printed, err
    alone, part = read_result(run), read_result(out / "lr-1e-3")
    assert alone["train_loss"] == part["train_loss"]
    for when in ("before", "after"):
        assert alone[when]["shares"] == part[when]["shares"] and alone[when]["texts"] == part[when]["texts"]
    assert (run / "model.safetensors").read_bytes() == (out / "lr-1e-3" / "model.safetensors").read_bytes()


def test_a_run_folder_is_a_model_folder(swept, command, model_folder, text_file):
    """`python -m evaluate` measures what the run itself measured, and any other model by the flags."""
    out, _ = swept
    result = read_result(out / "lr-1e-2")
    written = "12 x 10 tokens, temperature 1, top-k 50, seed 0, " + result["settings"]["dtype"]
    flags = ("--text", text_file, "--eval-sequences", 12, "--eval-tokens", 10, "--holdout", 0.1)
    for measured, arguments in ((result["after"], [out / "lr-1e-2"]), (result["before"], [model_folder, *flags])):
        code, printed, err = command(evaluate_command.main, *arguments)
        assert code == 0, err
        line = printed.splitlines()[2]
        assert f"| islands | {written} | {measured['ratio']:.3f} (" in line
        ratios = (measured["without_top_k"], measured["with_top_k"], result["book"]["ratio"])
        assert line.endswith(f"| {' | '.join(f'{ratio:.3f}' for ratio in ratios)} |")
    tuned, base = load_pretrained(out / "lr-1e-2"), load_pretrained(model_folder)
    assert tuned.config == base.config and not torch.equal(tuned.wte.weight, base.wte.weight)


@pytest.mark.parametrize("samples", [1, 5])
def test_a_diverged_rate_does_not_end_the_sweep(command, small_run, tmp_path, samples):
    """Also where the loss of the only sample was finite and its step was the one too many."""
    out = tmp_path / "sweep"
    flags = ("--lrs", "1e30", "1e-3", "--samples", samples, "--holdout", 0.1, "--out", out)
    code, printed, _ = command(sweep.main, *small_run, *flags)
    assert code == 0 and re.search(r"^1e30 .* diverged ", printed, re.MULTILINE) and "\n1e-3  " in printed
    assert [p.name for p in (out / "lr-1e30").iterdir()] == ["result.json"]
    result = read_result(out / "lr-1e30")
    assert result["after"] is None and all(math.isfinite(point["held_out_loss"]) for point in result["checkpoints"])


def test_what_is_held_out_is_not_trained_on(trained, model_folder, text_file, tmp_path, monkeypatch):
    """Every batch comes from the first three quarters, and the loss is that of the last quarter, all of it."""
    tokens = load_tokenizer(model_folder).encode_ordinary(text_file.read_text(encoding="utf-8").strip())
    held_out = tokens[len(tokens) - round(0.25 * len(tokens)) :]
    seen = []

    def note(source, *arguments):
        seen.append(source.tolist())
        return sample_batch(source, *arguments)

    monkeypatch.setattr("train.loop.sample_batch", note)
    flags = ("--lr", "1e-3", "--samples", 30, "--dtype", "float32")
    results = {share: trained(str(share), *flags, "--holdout", share) for share in (0, 0.25)}
    assert all(source == tokens for source in seen[:30]) and "held_out_loss" not in results[0]["checkpoints"][-1]
    assert all(source == tokens[: -len(held_out)] for source in seen[30:])
    losses = [(point["sample"], point["held_out_loss"]) for point in results[0.25]["checkpoints"]]
    assert [sample for sample, _ in losses] == [*range(0, 31, 5)]
    for model, (_, loss) in ((model_folder, losses[0]), (tmp_path / "0.25", losses[-1])):
        assert loss == pytest.approx(text_loss(load_pretrained(model), torch.tensor(held_out), 16), abs=1e-6)
    assert results[0]["in_sample_ratio"] == results[0.25]["in_sample_ratio"] != results[0.25]["book"]["ratio"]


def test_measuring_held_out_loss_changes_no_training_number(trained, monkeypatch):
    flags = ("--samples", 6, "--holdout", 0.2, "--dropout", 0.2)
    seldom = trained("seldom", *flags)
    monkeypatch.setattr("train.run.run.MIN_STEPS", 1)
    often = trained("often", *flags)
    assert often["train_loss"] == seldom["train_loss"]
    assert len(often["checkpoints"]) > len(seldom["checkpoints"])


def test_every_flag_reaches_its_place(trained):
    """Each run has a flag of the training and one of the writing, which have nothing to do with each other."""

    def run(name, *flags):
        # In float32: in bfloat16 two logits are now and then equal, and then top-k 1 keeps both.
        return trained(name, "--lr", "1e-2", "--samples", 3, "--holdout", 0, "--dtype", "float32", *flags)

    plain = run("plain")
    others = {
        name: run(name, *flags)
        for name, flags in {
            "cold": ("--weight-decay", 0.9, "--temperature", 0),
            "narrow": ("--batch-size", 3, "--top-k", 1),
            "all": ("--seq-len", 9, "--top-k", 0),
            "random numbers": ("--seed", 1),
        }.items()
    }
    for name, other in others.items():
        assert other["train_loss"] != plain["train_loss"] and other["before"]["texts"] != plain["before"]["texts"], name
    assert others["cold"]["before"]["texts"] == others["narrow"]["before"]["texts"]
    few = run("few", "--dropout", 0.5, "--eval-sequences", 5)
    assert few["train_loss"] != plain["train_loss"] and len(few["before"]["shares"]) == 5


def test_dropout_repeats(trained):
    torch.manual_seed(1)
    first = trained("first", "--dropout", 0.3)["train_loss"]
    torch.manual_seed(2)  # what was drawn before the run has no part in it
    assert trained("second", "--dropout", 0.3)["train_loss"] == first


@pytest.fixture
def texts_of_all_commands(command, trained, text_file, tmp_path, monkeypatch):
    """Trains, evaluates and runs the experiment: the tokens that a model of `folder` writes for each ratio."""

    def call(folder, *flags):
        seen = []

        def note(*args, **kwargs):
            measured = frequent_token_ratio(*args, **kwargs)
            seen.append(measured.tokens)
            return measured

        monkeypatch.setattr("evaluate.baseline.frequent_token_ratio", note)  # all three use it
        trained("run", "--lr", "1e-6", "--samples", 3, "--model", folder, *flags)
        written = ("--text", text_file, "--eval-tokens", 5, *flags)
        assert command(evaluate_command.main, folder, *written)[0] == 0
        few = {"batch_size": 2, "seq_len": 8, "sampling": Sampling(sequences=40, new_tokens=5)}
        experiment(1e-6, 1, model=tmp_path / "run", text=text_file, **few)
        assert len(seen) == 2 + 1 + 2
        return seen

    return call


def test_the_end_of_text_is_never_written(texts_of_all_commands, model_folder, tmp_path):
    """A model that would write nothing but `<|endoftext|>`."""
    folder, eot = tmp_path / "ends", VOCAB - 1
    model = load_pretrained(model_folder)
    with torch.no_grad():
        model.ln_f.weight.zero_()
        model.ln_f.bias.copy_(model.wte.weight[eot])
        model.wte.weight[eot] *= 3
    copy_tokenizer(model_folder, folder)
    save_pretrained(model, folder, end_of_text=eot)
    assert not any((tokens[:, 1:] == eot).any() for tokens in texts_of_all_commands(folder, "--temperature", 0))
    start = torch.zeros(4, 1, dtype=torch.long)
    for name in ("ends", "run"):
        assert (complete(load_pretrained(tmp_path / name), start, 5, temperature=0)[:, 1:] == eot).all()


def test_rows_that_stand_for_no_text_are_never_drawn(
    texts_of_all_commands, model_folder, official_weights, text_file, tmp_path
):
    """A vocabulary padded to a round number, whose new rows are the likeliest tokens of all."""
    weights = official_file(official_weights)
    likeliest = 20 * weights["ln_f.bias"] / np.linalg.norm(weights["ln_f.bias"])
    weights["wte.weight"] = np.concatenate([weights["wte.weight"], np.tile(likeliest, (20, 1))]).astype(np.float32)
    folder = write_model(tmp_path / "padded", weights, model_folder, vocab_size=VOCAB + 20)
    assert all(tokens.max() < VOCAB for tokens in texts_of_all_commands(folder, "--eval-sequences", 40))
    assert read_config(tmp_path / "run" / "config.json").vocab_size == VOCAB + 20
    written = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))
    assert written["eos_token_id"] == written["bos_token_id"] == VOCAB - 1
    settings = Settings(str(folder), str(text_file), training=Training(samples=200, seq_len=8), dtype="float32")
    notes = notes_on(open_baseline(settings))
    assert any("20 rows for tokens that its tokenizer does not know" in said for said in notes)


def test_a_text_as_long_as_a_window_is_too_short(command, refused, small_run, model_folder, tmp_path):
    tokenizer = load_tokenizer(model_folder)
    text = tokenizer.decode(tokenizer.encode_ordinary(make_text(60))[:20]).strip()
    (tmp_path / "short.txt").write_text(text, encoding="utf-8")
    length = len(tokenizer.encode_ordinary(text))
    flags = (*small_run, "--text", tmp_path / "short.txt", "--out", tmp_path / "new", "--holdout", 0)
    assert length < BLOCK
    assert f"a window needs {length + 1}" in refused(train_command.main, *flags, "--seq-len", length)
    assert command(train_command.main, *flags, "--seq-len", length - 1)[0] == 0


# Wrong input: one line, exit code 2, nothing written


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--model", "gpt3"], "no model or folder 'gpt3'"),
        (["--model", "{empty}"], "has no config.json"),
        (["--model", "gpt2"], "gpt2 is not in the cache .*name their folder"),
        (["--text", "missing.txt"], "no text 'missing.txt'"),
        (["--text", "{latin}"], "not UTF-8"),
        (["--text", "{blank}"], "is empty"),
        (["--text", "{short}"], "a window needs 17; use a longer text"),
        (["--general-text", "{short}"], "fewer than a window of --seq-len 16"),
        (["--lr", "0"], "argument --lr: '0' is not a finite number above 0"),
        (["--lr", "nan"], "'nan' is not a finite"),
        (["--lr", "fast"], "'fast' is not a finite"),
        (["--lr", "inf"], "'inf' is not a finite"),
        (["--samples", "0"], "--samples: '0' is not a whole number above 0"),
        (["--samples", "2.5"], "'2.5' is not a whole number"),
        (["--batch-size", "-1"], "'-1' is not a whole number"),
        (["--seq-len", str(BLOCK + 1)], f"over the model's context of {BLOCK}"),
        (["--holdout", "1"], "'1' is not a number from 0 to below 1"),
        (["--holdout", "0.999"], "tokens to train on, a window needs 17"),
        (["--holdout", "0.0001"], "leaves too little to measure; hold out more"),
        (["--patience", "0"], "--patience: '0' is not a whole number above 0"),
        (["--patience", "3", "--holdout", "0"], "nothing is held out; use a larger --holdout"),
        (["--dropout", "1"], "'1' is not a number from 0 to below 1"),
        (["--temperature", "-1"], "'-1' is not 0, nor a finite number of at least 1e-06"),
        (["--temperature", "1e-320"], "'1e-320' is not 0, nor .*; 0 always takes the most likely"),
        (["--top-k", "-1"], "'-1' is not a whole number from 0 up"),
        (["--seed", "-1"], "'-1' is not a whole number from 0 up to"),
        (["--device", "cuda:7"], "device 'cuda:7' is not available"),
        (["--device", "toaster"], "device 'toaster' is not available"),
        (["--device", "meta"], "device 'meta' is not available"),
        (["--seed", str(2**63)], r"is not a whole number from 0 up to 2\*\*63 - 1"),
        (["--seed", "²"], "'²' is not a whole number from 0 up to"),
        (["--out", "{used}"], "already in use"),
        (["--out", "{blank}/below"], "cannot write to"),
        (["--speed", "1"], "unrecognized arguments"),
    ],
)
def test_wrong_input(refused, small_run, tmp_path, monkeypatch, arguments, complaint):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    places = {name: tmp_path / name for name in ("empty", "latin", "blank", "short", "used")}
    places["empty"].mkdir()
    places["latin"].write_bytes(b"caf\xe9 " * 100)
    places["blank"].write_text("\n", encoding="utf-8")
    places["short"].write_text("too short", encoding="utf-8")
    places["used"].mkdir()
    (places["used"] / "model.safetensors").touch()
    before = sorted(tmp_path.rglob("*"))
    filled = [a.format(**places) for a in arguments]
    assert re.search(complaint, refused(train_command.main, *small_run, "--out", tmp_path / "new", *filled))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("model.safetensors", lambda content: content[:10_000], "cut short"),
        (
            "config.json",
            lambda content: content.replace(b'"vocab_size": 300', b'"vocab_size": 299'),
            "config.json says 299 tokens, the tokenizer has 300",
        ),
    ],
)
def test_a_damaged_model_is_found_before_anything_is_written(
    refused, small_run, model_folder, tmp_path, name, change, complaint
):
    damaged = shutil.copytree(model_folder, tmp_path / "damaged")
    (damaged / name).write_bytes(change((damaged / name).read_bytes()))
    for main in (train_command.main, sweep.main):
        assert complaint in refused(main, *small_run, "--model", damaged, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_figure_that_cannot_be_drawn_loses_nothing(swept, tmp_path, monkeypatch, capsys):
    out = shutil.copytree(swept[0], tmp_path / "swept")
    for name in ("table.md", "report.html", *TITLES):
        (out / name).unlink(missing_ok=True)

    def broken(results, folder):
        raise RuntimeError("no\nfont")

    monkeypatch.setattr("evaluate.report.plots.plot_all", broken)
    jobs.report(out)
    printed = capsys.readouterr().out
    assert f"(RuntimeError: no font); python -m evaluate.report {out} tries again" in printed
    assert (out / "table.md").is_file() and printed.endswith(f"\n{out / 'table.md'}\n")


def test_a_learning_rate_named_twice_and_too_many_seeds(refused):
    assert "twice" in refused(sweep.main, "--lrs", "1e-4", "0.0001")
    assert "'1000000000' is not a whole number from 1 to 1000" in refused(sweep.main, "--seeds", 10**9)


def test_a_run_without_memory_ends_in_one_line(refused, small_run, tmp_path, monkeypatch):
    monkeypatch.setattr("train.run.run.fast_gradients", lambda *_: lambda *_: torch.empty(2**50))
    for main in (train_command.main, sweep.main):
        err = refused(main, *small_run, "--out", tmp_path / main.__module__)
        assert err == "error: out of memory; use a smaller --micro-batch or --batch-size\n"
