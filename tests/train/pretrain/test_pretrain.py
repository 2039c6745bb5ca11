"""Pretraining from an empty page: the schedule, what decays, going on after a stop, and the folder it writes."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_text

import train.pretrain.__main__ as pretrain_command
import train.pretrain.pretraining as pretraining
from data.tokenizer import load_tokenizer
from model.gpt2 import GPT2, GPT2Config
from model.pretrained import load_pretrained
from train.adamw import AdamW
from train.pretrain.corpus import prepare_corpus
from train.run.checkpoint import save_checkpoint

FLAGS = "--vocab-size 290 --n-layer 1 --n-head 2 --n-embd 8 --block-size 16 --batch-size 4 --steps 8 --warmup 2"


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for i in range(6):
        (folder / f"book{i}.txt").write_text(make_text(300, seed=i), encoding="utf-8")
    return folder


@pytest.fixture
def pretrain(command, corpus):
    def call(out, *more):
        flags = "--corpus", corpus, "--out", out, *FLAGS.split(), "--held-out", 2, "--evaluate-every", 2
        return command(pretrain_command.main, *flags, *more)

    return call


def test_the_schedule():
    def lr(step):
        return pretraining.learning_rate(step, steps=110, warmup=10, peak=2.0)

    assert lr(0) == pytest.approx(0.2) and lr(9) == pytest.approx(2.0) == lr(10)
    assert lr(50) == lr(62) == 2.0 > lr(63)  # 56 % of the steps are over
    assert lr(74) == pytest.approx(1.0)  # 12 of the last 48: the root of a quarter is a half
    assert lr(109) == pytest.approx(2 - 2 * math.sqrt(47 / 48))
    assert pretraining.learning_rate(9, steps=10, warmup=9, peak=2.0) == 2.0  # there is no room to fall


def test_gradients_are_cut_to_a_length_in_their_own_direction():
    torch.manual_seed(0)
    model, tokens = GPT2(GPT2Config(50, 8, 1, 2, 8)), torch.arange(90) % 50

    def gradients(clip):
        """What the optimizer is given, as one long row."""
        seen = []
        optimizer = SimpleNamespace(
            step=lambda: seen.extend(p.grad.flatten().clone() for p in model.parameters()), zero_grad=model.zero_grad
        )
        recipe = pretraining.Recipe(50, 1, 2, 8, 8, 4, 10, 1e-3, 2, 0.1, clip, 2, 0, float32=True)
        pretraining.training_step(model, optimizer, tokens, recipe, 0)
        return torch.cat(seen)

    whole = gradients(1e9)
    length = whole.norm().item()
    torch.testing.assert_close(gradients(length / 2), whole / 2, rtol=1e-5, atol=0)
    assert torch.equal(gradients(2 * length), whole)  # a short one is not stretched


def test_it_writes_a_model_folder_that_learned_something(pretrain, tmp_path, corpus):
    out = tmp_path / "model"
    code, printed, err = pretrain(out, "--lr", "0.05", "--steps", 50, "--evaluate-every", 20)
    assert code == 0, err
    model, tokenizer = load_pretrained(out), load_tokenizer(out)
    assert (model.config.n_layer, model.config.n_embd, model.config.block_size, tokenizer.n_vocab) == (1, 8, 16, 290)
    training = json.loads((out / "training.json").read_text(encoding="utf-8"))
    assert [step for step, _ in training["held_out_loss"]] == [20, 40, 50]
    assert training["held_out_loss"][-1][1] < training["held_out_loss"][0][1] - 0.1
    assert training["tokens_seen"] == 50 * 4 * 16 and training["seconds"] > 0
    sides = training["corpus"]["train"], training["corpus"]["held_out"]
    assert sorted(sides[0]["texts"] + sides[1]["texts"]) == sorted(file.stem for file in corpus.iterdir())
    assert len(sides[1]["texts"]) == 2
    held_out = np.load(out / "work" / "held_out.npy")
    assert len(held_out) == sides[1]["tokens"] and held_out[0] == tokenizer.eot_token == 289
    texts = "".join((corpus / f"{name}.txt").read_text(encoding="utf-8") for name in sides[1]["texts"])
    assert tokenizer.decode(held_out[held_out != 289].tolist()) == texts
    # Bits per byte: all of the text's bits over its bytes.
    step, bits = training["held_out_bits_per_byte"][-1]
    nats = training["held_out_loss"][-1][1] * (len(held_out) - 1)
    assert bits == pytest.approx(nats / math.log(2) / len(texts.encode("utf-8")), rel=1e-9)


def test_texts_with_the_same_id_are_all_kept(tmp_path):
    ids = ["a", "b", "a", "a (2)", "a", "b"]
    lines = [json.dumps({"id": name, "text": f"{i} the sea"}) + "\n" for i, name in enumerate(ids)]
    (tmp_path / "c.jsonl").write_text("".join(lines), encoding="utf-8")
    summary = prepare_corpus(tmp_path / "c.jsonl", tmp_path / "work", 257, 2, seed=0)
    names = sorted(summary["train"]["texts"] + summary["held_out"]["texts"])
    assert names == ["a", "a (2)", "a (2) (2)", "a (3)", "b", "b (2)"]
    tokenizer = load_tokenizer(tmp_path / "work")
    sides = [np.load(tmp_path / "work" / f"{side}.npy").tolist() for side in ("train", "held_out")]
    texts = tokenizer.decode(sides[0] + sides[1]).split("<|endoftext|>")[1:]
    assert sorted(texts) == [f"{i} the sea" for i in range(6)]


def test_biases_and_norms_do_not_decay(pretrain, tmp_path, monkeypatch):
    """Like two AdamW, one of matrices that decays and one of vectors that does not, bit for bit."""
    generator = torch.Generator().manual_seed(3)
    start = [torch.randn(shape, generator=generator) for shape in ((3, 4), (4,), (5, 2), (1,))]
    ours, theirs = ([torch.nn.Parameter(p.clone()) for p in start] for _ in range(2))
    settings = {"lr": 0.1, "betas": (0.9, 0.95)}
    sparing = AdamW(ours, weight_decay=0.5, matrices_only=True, **settings)
    pair = AdamW(theirs[::2], weight_decay=0.5, **settings), AdamW(theirs[1::2], weight_decay=0.0, **settings)
    for step in range(5):
        for p, q in zip(ours, theirs):
            p.grad = q.grad = torch.randn(p.shape, generator=generator)
        sparing.lr = pair[0].lr = pair[1].lr = 0.1 / (step + 1)
        for optimizer in (sparing, *pair):
            optimizer.step()
        assert all(map(torch.equal, ours, theirs))

    made = []

    def note(parameters, lr, **given):
        parameters = list(parameters)
        made.append(([p.dim() for p in parameters].count(2), len(parameters), given["weight_decay"]))
        assert given["matrices_only"]
        return AdamW(parameters, lr, **given)

    monkeypatch.setattr(pretraining, "FusedAdamW", note)
    assert pretrain(tmp_path / "model", "--weight-decay", "0.3")[0] == 0
    assert made == [(6, 16, 0.3)]


def test_stopped_and_started_again_is_the_same_run(pretrain, tmp_path, monkeypatch):
    """Stopped in step 6, after the state of step 4: steps 5 and 6 are done again, bit for bit."""
    assert pretrain(tmp_path / "whole", "--float32")[0] == 0
    original = pretraining.sample_batch

    def pulls_the_plug(tokens, batch_size, seq_len, seed, step):
        if step == 5:
            raise KeyboardInterrupt
        return original(tokens, batch_size, seq_len, seed, step)

    with monkeypatch.context() as patched:
        patched.setattr(pretraining, "sample_batch", pulls_the_plug)
        assert pretrain(tmp_path / "stopped", "--float32")[0] == 130
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    code, printed, _ = pretrain(tmp_path / "stopped", "--float32")
    assert code == 0 and "continuing from step 4" in printed
    for name in ("model.safetensors", "vocab.json", "merges.txt", "config.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    files = [tmp_path / name / "training.json" for name in ("whole", "stopped")]
    whole, stopped = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    for key in ("train_loss", "held_out_loss", "held_out_bits_per_byte"):
        assert whole[key] == stopped[key]


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_pretraining_that_diverges_leaves_no_model(pretrain, tmp_path, monkeypatch, what):
    original = pretraining.chunked_next_token_loss

    def explodes(model, inputs, targets):
        loss = original(model, inputs, targets)
        if what == "loss":
            return loss * torch.inf
        model.ln_f.bias.register_hook(lambda gradient: gradient * torch.nan)
        return loss

    monkeypatch.setattr(pretraining, "chunked_next_token_loss", explodes)
    code, _, err = pretrain(tmp_path / "model", "--float32")
    assert code == 2 and f"the {what} in step 1 is not finite: diverged; no model is written" in err.splitlines()[-1]
    assert [file.name for file in (tmp_path / "model").iterdir()] == ["work"]


def test_other_settings_do_not_go_on(pretrain, tmp_path):
    def refused(*flags):
        code, _, err = pretrain(tmp_path / "model", *flags)
        assert code == 2 and "differs: " in err and err.count("\n") == 1
        return err

    pretrain(tmp_path / "model")
    assert refused("--lr", "0.5").endswith("lr was 0.002, is 0.5; repeat its settings, or name another --out\n")
    assert "vocab_size was 290, is 280" in refused("--vocab-size", "280")
    checkpoint = tmp_path / "model" / "work" / "checkpoint.safetensors"
    checkpoint.unlink()
    assert "corpus.json holds a run that differs: vocab_size was 290, is 280" in refused("--vocab-size", "280")
    save_checkpoint(checkpoint, {"w": torch.zeros(1)}, {"step": 4, "settings": {}})  # of an earlier version
    assert refused()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--n-embd", "9"], "--n-embd 9 is not a multiple of --n-head 2"),
        (["--warmup", "8"], "--warmup 8 must be below --steps 8"),
        (["--held-out", "6"], "leaves none of the 6 texts"),
        (["--vocab-size", "256"], "argument --vocab-size: '256' is not a whole number from 257 to 65,536"),
        (["--vocab-size", "65537"], "'65537' is not a whole number from 257 to 65,536"),
        (["--vocab-size", "4e3"], "'4e3' is not a whole number"),
        (["--corpus", ""], "no corpus is named; give one: --corpus "),
        (["--block-size", "100000"], "a window needs 100001"),
    ],
)
def test_wrong_flags(pretrain, tmp_path, flags, complaint):
    code, _, err = pretrain(tmp_path / "model", *flags)
    assert code == 2 and complaint in err.splitlines()[-1] and "Traceback" not in err
