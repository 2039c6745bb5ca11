"""Is a difference chance? The luck of the writing, and that of the batches' order, beside it."""

import numpy as np

from evaluate.report.verdicts import judge
from evaluate.results import Result, final_loss, lr_label, paired_difference, run_label


def sampling_noise(results: list[Result]) -> list[str]:
    """Neighbouring learning rates compared text by text, for each seed: is the difference one of luck in writing?"""
    names = {id(result): run_label(result, results) for result in results}
    results, sentences = [result for result in results if result["after"]], []
    for seed in sorted({result["seed"] for result in results}):
        of_seed = [result for result in results if result["seed"] == seed]
        for one, other in zip(of_seed, of_seed[1:]):
            if len(one["after"]["shares"]) != len(other["after"]["shares"]):
                continue  # of two sweeps that wrote unequally much there are no pairs
            change, (low, high) = paired_difference(other["after"], one["after"])
            verdict = "more than" if low > 0 or high < 0 else "within"
            sentences.append(
                f"Ratio at {names[id(one)]} against {names[id(other)]}: "
                f"{change:+.3f} ({low:+.3f} to {high:+.3f}), {verdict} the luck of the writing."
            )
    return sentences


def training_noise(results: list[Result]) -> list[str]:
    """Neighbouring learning rates compared over their seeds: the batches' order is chance as well.

    A difference of means counts if it is more than two of its standard errors (Welch) away from zero.
    """
    results, sentences = [result for result in results if result["after"]], []
    lrs = list(dict.fromkeys(result["lr"] for result in results))
    measures = (("Ratio", lambda r: r["after"]["ratio"]), ("Held-out loss", lambda r: r["held_out_loss"][-1][1]))
    for one, other in zip(lrs, lrs[1:]):
        for name, value in measures[: 2 if all(r["held_out_loss"] for r in results) else 1]:
            a, b = ([value(r) for r in results if r["lr"] == lr] for lr in (one, other))
            if min(len(a), len(b)) > 1:
                change = np.mean(a) - np.mean(b)
                error = (np.var(a, ddof=1) / len(a) + np.var(b, ddof=1) / len(b)) ** 0.5
                verdict = "more than" if abs(change) > 2 * error else "within"
                sentences.append(
                    f"{name} at {lr_label(one)} against {lr_label(other)}, over the seeds: {change:+.3f} "
                    f"(+- {2 * error:.3f}), {verdict} the luck of the batches' order."
                )
    return sentences


SEEDS_LEAD = (
    "Over the seeds, that is, over orders of the batches: mean, standard deviation between them, lowest to highest."
)


def over_seeds(results: list[Result]) -> list[str]:
    """`seed_rows` as lines of Markdown; nothing where there is one seed."""
    rows = seed_rows(results)
    if not rows:
        return []
    rows.insert(1, ["---"] * len(rows[0]))
    return [SEEDS_LEAD, "", *(f"| {' | '.join(row)} |" for row in rows), ""]


def seed_rows(results: list[Result]) -> list[list[str]]:
    """A table over the learning rates that were run with several seeds: means, how far the seeds scatter, and how many
    of them each verdict holds for. The titles come first; nothing where there is one seed."""
    lrs = [lr for lr in dict.fromkeys(r["lr"] for r in results) if sum(r["lr"] == lr for r in results) > 1]
    if not lrs:
        return []
    verdicts, held_out = judge(results)[0], all(result["held_out_loss"] for result in results)
    measures = {"training loss, last tenth": final_loss, "ratio": lambda r: r["after"]["ratio"]}
    measures |= {"held-out loss, lowest": lambda r: min(loss for _, loss in r["held_out_loss"])} if held_out else {}
    measures |= {"held-out loss, last": lambda r: r["held_out_loss"][-1][1]} if held_out else {}
    measures |= {"copied (%)": lambda r: 100 * r["after"]["copied"]}
    measures |= {"KL (nats)": lambda r: r["after"]["forgetting"]["base_texts"]["kl"]}
    titles = ["learning rate", "seeds", *measures, "sd of the ratio's writing", "verdicts (seeds)"]
    rows = [titles]
    for lr in lrs:
        runs = [result for result in results if result["lr"] == lr]
        ends = [result for result in runs if result["after"]]
        found = [[value(result) for result in ends] for value in measures.values()]
        widths = [(r["after"]["ratio_ci"][1] - r["after"]["ratio_ci"][0]) / (2 * 1.96) for r in ends]
        names = [v.name for v in verdicts if v.lr == lr and v.seed is not None]
        rows.append([lr_label(lr), str(len(runs)), *map(mean_and_spread, found)])
        rows[-1].append(f"{np.mean(widths):.3f}" if widths else "")
        rows[-1].append("; ".join(f"{name} {names.count(name)}/{len(runs)}" for name in dict.fromkeys(names)))
    return rows


def mean_and_spread(values: list[float]) -> str:
    """Mean, standard deviation and range of several values, as a cell says it."""
    if len(values) < 2:
        return "".join(f"{value:.3f}" for value in values)
    return f"{np.mean(values):.3f} sd {np.std(values, ddof=1):.3f} ({min(values):.3f} to {max(values):.3f})"
