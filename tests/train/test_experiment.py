"""The experiment on one page says what `python -m train` says."""

import json
import math

import pytest
import torch
from conftest import VOCAB

import train.__main__ as train_command
from data.settings import Sampling
from data.tokenizer import copy_tokenizer
from model.pretrained import load_pretrained, save_pretrained
from model.sampling import complete
from train.experiment import experiment


def test_it_is_the_run_without_its_folder(command, model_folder, text_file, tmp_path):
    """The same losses and ratios as the command, which computes them faster and keeps them."""
    flags = ("--model", model_folder, "--text", text_file, "--out", tmp_path / "run", "--dtype", "float32")
    flags += ("--lr", "1e-2", "--samples", 6, "--batch-size", 3, "--seq-len", 12, "--holdout", 0.3, "--seed", 2)
    flags += ("--weight-decay", 0.2, "--dropout", 0.2, "--eval-sequences", 20, "--eval-tokens", 7, "--top-k", 9)
    code, _, err = command(train_command.main, *flags, "--temperature", 0.9)
    assert code == 0, err
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    found = experiment(
        1e-2,
        6,
        model=model_folder,
        text=text_file,
        batch_size=3,
        seq_len=12,
        holdout=0.3,
        seed=2,
        weight_decay=0.2,
        dropout=0.2,
        sampling=Sampling(20, 7, temperature=0.9, top_k=9, seed=2),
        device="cpu",
    )
    assert found.losses == pytest.approx(result["train_loss"], abs=1e-5)
    for ratio, measured in ((found.before, result["before"]), (found.after, result["after"])):
        assert ratio.shares == measured["shares"] and [*ratio.ratio_ci] == measured["ratio_ci"]
    # Not the weights: a bias of the keys changes nothing, and AdamW makes much of the rounding in its gradient of zero.
    tokens = torch.arange(20)[None]
    torch.testing.assert_close(found.model(tokens), load_pretrained(tmp_path / "run")(tokens), rtol=0, atol=1e-3)


def test_what_diverges_writes_nothing(model_folder, text_file):
    sampling = Sampling(sequences=2, new_tokens=2)
    found = experiment(1e30, 9, model=model_folder, text=text_file, batch_size=2, seq_len=8, sampling=sampling)
    assert found.after is None and len(found.losses) < 9 and all(map(math.isfinite, found.losses))


def test_the_end_of_text_is_never_written(model_folder, text_file, tmp_path):
    """A model that would write nothing but `<|endoftext|>`."""
    model, end = load_pretrained(model_folder), VOCAB - 1
    with torch.no_grad():
        model.ln_f.weight.zero_()
        model.ln_f.bias.copy_(model.wte.weight[end])
        model.wte.weight[end] *= 3
    copy_tokenizer(model_folder, tmp_path)
    save_pretrained(model, tmp_path, end_of_text=end)
    few = {"batch_size": 2, "seq_len": 8, "sampling": Sampling(sequences=4, new_tokens=5)}
    found = experiment(1e-6, 1, model=tmp_path, text=text_file, **few)
    assert complete(load_pretrained(tmp_path), torch.zeros(1, 1, dtype=torch.long), 1, temperature=0)[0, 1] == end
    assert not any((ratio.tokens[:, 1:] == end).any() for ratio in (found.before, found.after))
