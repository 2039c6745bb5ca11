"""The experiment on one page says what `python -m train` says."""

import math

import pytest
import torch

from data.settings import Sampling, Settings, Training
from evaluate.baseline import open_baseline
from evaluate.results import describe, find_runs
from model.pretrained import load_pretrained
from train.experiment import experiment


def test_it_is_the_run_without_its_folder(trained, model_folder, text_file, tmp_path):
    """The same losses and ratios as the command, which computes them faster and keeps them."""
    flags = ("--lr", "1e-2", "--samples", 6, "--batch-size", 3, "--seq-len", 12, "--holdout", 0.3, "--seed", 2)
    flags += ("--weight-decay", 0.2, "--dropout", 0.2, "--eval-sequences", 20, "--eval-tokens", 7, "--top-k", 9)
    result = trained("run", *flags, "--temperature", 0.9, "--dtype", "float32")
    settings = dict(batch_size=3, seq_len=12, holdout=0.3, seed=2, weight_decay=0.2, dropout=0.2, device="cpu")
    sampling = Sampling(20, 7, temperature=0.9, top_k=9, seed=2)
    found = experiment(1e-2, 6, model=model_folder, text=text_file, sampling=sampling, **settings)
    assert found.losses == pytest.approx(result["train_loss"], abs=1e-5)
    for ratio, measured in ((found.before, result["before"]), (found.after, result["after"])):
        assert ratio.shares == measured["shares"] and [*ratio.ratio_ci] == measured["ratio_ci"]
    # As a run it says the same of itself, of the text and of the ratios: the figure is the command's.
    device = settings.pop("device")
    asked = Settings(str(model_folder), str(text_file), training=Training(6, **settings), sampling=sampling)
    [kept], [drawn] = find_runs([tmp_path / "run"]), open_baseline(asked, device).runs({1e-2: found})
    assert describe([drawn]) == describe([kept]) and drawn.name == kept.name and drawn.expected == kept.expected
    assert drawn.book_ratio == kept.book_ratio and drawn.train_loss == found.losses and not drawn.held_out
    for when in ("book", "before", "after"):
        for name in drawn.result[when].keys() & {"ratio_ci", "ratio", "without_top_k", "with_top_k"}:
            assert drawn.result[when][name] == pytest.approx(kept.result[when][name]), (when, name)
    # Not the weights: a bias of the keys changes nothing, and AdamW makes much of the rounding in its gradient of zero.
    tokens = torch.arange(20)[None]
    torch.testing.assert_close(found.model(tokens), load_pretrained(tmp_path / "run")(tokens), rtol=0, atol=1e-3)


def test_what_diverges_writes_nothing(model_folder, text_file):
    sampling = Sampling(sequences=2, new_tokens=2)
    found = experiment(1e30, 9, model=model_folder, text=text_file, batch_size=2, seq_len=8, sampling=sampling)
    asked = Settings(str(model_folder), str(text_file), training=Training(9, 2, 8), sampling=sampling)
    assert open_baseline(asked).runs({1e30: found})[0].after is None
    assert found.after is None and len(found.losses) < 9 and all(map(math.isfinite, found.losses))
