"""How often intervals and verdicts are right: a bank of texts or losses is the truth, and small samples are drawn.

python -m tests.simulate      # writes model/lilliput/demo/simulated.md; about five minutes on one core
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from data.book import load_book
from data.settings import Sampling
from data.tokenizer import load_tokenizer
from evaluate.intervals import t_interval, wilson_interval
from evaluate.loss import window_losses
from evaluate.measures.copying import SourceIndex, copied_share
from evaluate.table import markdown
from evaluate.verdicts import SEEDS, difference
from model.hub import model_folder
from model.pretrained import load_pretrained
from tests.exercise.bootstrap import bootstrap_interval
from train.experiment import experiment

FILE = Path(__file__).resolve().parent.parent / "model" / "lilliput" / "demo" / "simulated.md"
BANK, DRAWS = 1500, 2000
STEPS, SMALL = 100, {"batch_size": 4, "seq_len": 128, "holdout": 0.5}


def holds(interval: Callable, bank: np.ndarray, n: int, rng: np.random.Generator, draws: int = DRAWS) -> str:
    """In how many percent of samples of `n` from `bank` the interval holds the mean of the bank."""
    samples = bank[rng.integers(len(bank), size=(draws, n))]
    inside = [low <= bank.mean() <= high for low, high in map(interval, samples)]
    return f"{100 * np.mean(inside):.0f} %"


def too_large(batches: np.ndarray) -> np.ndarray:
    """The old rule for "takes too large a step", of `batches` (runs, steps): the highest mean of five batches is more
    than 0.2 nats above the first batch."""
    means = np.stack([batches[:, i : i + 5].mean(1) for i in range(batches.shape[1] - 4)])
    return means.max(0) > batches[:, 0] + 0.2


def one_is_best(losses: np.ndarray) -> float:
    """In which share of `losses` (draws, rates), one seed each, the old rule of 1 % says that one rate fits best."""
    lowest, second = np.sort(losses, axis=1)[:, :2].T
    return np.mean(second - lowest >= 0.01 * lowest)


def differ(losses: np.ndarray) -> tuple[float, float]:
    """In which share of `losses` (draws, 2 rates, seeds) the rates are said to differ: by two standard errors of the
    gap, the old rule, and by the interval of the differences, paired by seed."""
    gap, error = np.diff(losses.mean(2))[:, 0], (losses.var(2, ddof=1).sum(1) / losses.shape[2]) ** 0.5
    paired = [difference(dict(enumerate(one)), dict(enumerate(other))) for one, other in losses]
    return np.mean(abs(gap) >= 2 * error), np.mean([low > 0 or high < 0 for low, high in paired])


def main() -> None:
    rng, rows = np.random.default_rng(0), []
    sampling = Sampling(sequences=BANK, new_tokens=64, top_k=0)
    found = experiment(lr=3e-4, samples=STEPS, model="lilliput", text="voyage", sampling=sampling, **SMALL)
    for n in (5, 10, 32):
        shares = np.array(found.after.shares)
        rows.append([f"the interval of the ratio holds the truth, {n} texts"])
        rows[-1] += [holds(bootstrap_interval, shares, n, rng), holds(t_interval, shares, n, rng)]
    tokens = torch.tensor(load_tokenizer(model_folder("lilliput")).encode_ordinary(load_book("voyage").text))
    copied = copied_share(found.after.tokens[:, 1:], SourceIndex(tokens[: len(tokens) // 2]))
    for n in (10, 96):
        share = 100 * np.mean(copied > 0)
        rows.append([f"the interval of copying holds the truth, {n} texts, {share:.1f} % of them with a copy"])
        rows[-1] += [
            holds(bootstrap_interval, copied, n, rng),
            holds(lambda sample: wilson_interval(sample.mean(), len(sample)), (copied > 0).astype(float), n, rng),
        ]
    base = load_pretrained(model_folder("lilliput"))
    windows = np.concatenate([window_losses(base, tokens[shift : len(tokens) // 2], 128) for shift in range(0, 128, 4)])
    for size in (1, 4, 16):
        batches = windows[rng.integers(len(windows), size=(DRAWS, STEPS, size))].mean(2)
        rows.append([f"a model that does not move takes too large a step, batches of {size}"])
        rows[-1] += [f"{100 * too_large(batches).mean():.0f} %", "0 %"]
    for scatter in (0.03, 0.05):
        old = one_is_best(3.58 + rng.normal(0, scatter, (DRAWS, 3)))
        rows.append(
            [f"one of three equal rates fits best, one seed, scatter {scatter}", f"{100 * old:.0f} %", "not said"]
        )
    for seeds in (2, 3, 5):
        old, new = differ(3.58 + rng.normal(0, 0.03, (DRAWS, 2, seeds)))
        rows.append([f"two equal rates differ, {seeds} seeds", f"{100 * old:.0f} %", f"{100 * new:.0f} %"])
        rows[-1][2] = rows[-1][2] if seeds >= SEEDS else "not said"
    FILE.write_text("\n".join(markdown(["how often", "before", "now"], rows)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
