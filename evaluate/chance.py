"""Is a difference chance? The noise of the writing, and that of the order of the batches."""

import numpy as np

from evaluate.results import Run, lr_label, paired_difference


def sampling_noise(runs: list[Run]) -> list[str]:
    """Sentences on neighbouring learning rates, for each seed: is their difference in ratio more than the noise of the
    writing? Compared text by text."""
    finished, sentences = [run for run in runs if run.after], []
    for seed in sorted({run.seed for run in finished}):
        of_seed = [run for run in finished if run.seed == seed]
        for one, other in zip(of_seed, of_seed[1:]):
            change, (low, high) = paired_difference(other.after, one.after)
            verdict = "more than" if low > 0 or high < 0 else "within"
            sentences.append(
                f"Ratio at {one.label} against {other.label}: {change:+.3f} ({low:+.3f} to {high:+.3f}), "
                f"{verdict} the noise of the writing."
            )
    return sentences


def error_of_gap(a: list[float], b: list[float]) -> float:
    """Standard error of the difference of two means, whose variances may differ (Welch 1947)."""
    return float((np.var(a, ddof=1) / len(a) + np.var(b, ddof=1) / len(b)) ** 0.5)


def training_noise(runs: list[Run]) -> list[str]:
    """Sentences on neighbouring learning rates over their seeds, since the order of the batches is chance as well.

    A difference of means counts if it is more than two of its standard errors away from zero.
    """
    finished, sentences = [run for run in runs if run.after], []
    lrs = list(dict.fromkeys(run.lr for run in finished))
    measures = {"Ratio": lambda run: run.after["ratio"]}
    if all(run.held_out for run in finished):
        measures["Held-out loss"] = lambda run: run.after["held_out"]["loss"]
    for one, other in zip(lrs, lrs[1:]):
        for name, value in measures.items():
            a, b = ([value(run) for run in finished if run.lr == lr] for lr in (one, other))
            if min(len(a), len(b)) > 1:
                change = np.mean(a) - np.mean(b)
                error = error_of_gap(a, b)
                verdict = "more than" if abs(change) > 2 * error else "within"
                sentences.append(
                    f"{name} at {lr_label(one)} against {lr_label(other)}, over the seeds: {change:+.3f} "
                    f"(+- {2 * error:.3f}), {verdict} the noise of the batches' order."
                )
    return sentences
