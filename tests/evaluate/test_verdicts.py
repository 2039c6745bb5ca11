"""Every verdict on numbers made by hand, on both sides of its threshold; the conclusion; chance."""

import numpy as np
import pytest

from evaluate.results import paired_difference, runs_of
from evaluate.verdicts import RULES, conclusion, judge, perplexity, valleys
from tests.evaluate.handmade import (
    STEPS,
    diverged,
    evaluation,
    held_out_at,
    nothing_held_out,
    result_of,
    with_levers,
    with_losses,
)


def run(lr=1e-4, seed=0, **changes) -> dict:
    """A run on which no rule has anything to say; `changes` are of its evaluation after training."""
    return result_of(lr, seed, after=evaluation(**changes))


def sentences(*results) -> list[str]:
    return [verdict.sentence for verdict in judge(runs_of([*results]))[0] if verdict.seed is not None]


def names(result: dict) -> list[str]:
    return [f"{v.name} {v.when}".strip() for v in judge(runs_of([result]))[0] if v.seed is not None]


def test_a_quiet_run_gets_no_verdict_and_misses_none():
    (answer,), not_made = judge(runs_of([run()]))
    assert (answer.run, answer.seed) == (None, None) and not_made == {}
    assert all(rule.words for rule in RULES)


def extraction(low, held_out_high):
    parts = {"training": 0.5, "training_ci": [low, 0.6], "held_out": 0.1, "held_out_ci": [0.05, held_out_high]}
    return {"extraction": parts}


def loss(nats):
    return {"held_out": {"loss": nats}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"copied": 0.003, "copied_ci": [0.0021, 0.004]}, ["copies"]),
        ({"copied": 0.02, "copied_ci": [0.002, 0.03]}, []),  # not above the base model's interval
        (extraction(0.2001, 0.2), ["has memorised passages"]),
        (extraction(0.2, 0.2), []),
        (loss(4.041), ["ends worse than it began"]),
        (loss(4.039), []),
    ],
)
def test_verdicts_on_both_sides_of_their_thresholds(changes, expected):
    assert names(run(**changes)) == expected


def test_the_base_model_is_the_control():
    """What the base model does as well is not the training's doing."""
    copying = run(copied=0.2, copied_ci=[0.18, 0.22])
    assert names(copying) == ["copies"]
    copying["before"]["copied_ci"] = [0.1, 0.19]
    assert names(copying) == []


def test_what_the_base_model_says_as_well_is_not_memorised():
    easy = run(**extraction(0.3, 0.2))
    assert names(easy) == ["has memorised passages"]
    easy["before"]["extraction"] = easy["before"]["extraction"] | {"training_ci": [0.2, 0.3]}
    assert names(easy) == []


FALLING = [5 - 0.02 * i for i in range(STEPS)]


@pytest.mark.parametrize(
    ("training", "losses", "since"),
    [
        (FALLING, [5.0, 4.5, 4.2, 4.3, 4.6], 20),  # turns up while the training loss falls
        (FALLING, [5.0, 4.5, 4.2, 4.2, 4.24], None),  # up by less than 1 %
        (FALLING, [5.0, 4.5, 4.2, 4.1, 4.0], None),  # still falling
        (FALLING, [5.0, 5.1, 5.2, 5.3, 5.4], 0),  # worse from the first step on
        ([5.0] + [6.0] * 99, [5.0, 6.1, 6.2, 6.3, 6.4], None),  # harm, but no over-fitting: training got worse too
        ([5.0] * 100, [5.0, 5.1, 5.2, 5.3, 5.4], None),  # nor did it learn anything by heart
    ],
)
def test_over_fitting_by_its_rule(training, losses, since):
    result = with_losses(result_of(train_loss=training), losses)
    verdicts = {verdict.name: verdict for verdict in judge(runs_of([result]))[0]}
    assert ("over-fits" in verdicts) == (since is not None)
    assert ("ends worse than it began" in verdicts) == (losses[-1] > losses[0])
    if since is not None:
        assert verdicts["over-fits"].when == f"from step {since} on"
        assert f"{min(losses):.3f} there, {losses[-1]:.3f} at the end" in verdicts["over-fits"].sentence


def test_a_step_too_large_is_no_over_fitting():
    """The training loss jumps up, and the held-out loss with it; over-fitting can begin only after the recovery."""
    result = run()
    # Steps 3 to 7 have a mean of 4.62; 8 to 12 are the first below 4.
    rise = [4.0, 4.2, 4.6, 4.7, 4.7, 4.6, 4.5, 4.1, 3.9]
    result["train_loss"] = rise + [3.8 - 0.01 * i for i in range(STEPS - len(rise))]
    result |= held_out_at([[0, 3.7], [5, 4.9], [10, 5.0], [20, 4.8], [50, 4.9], [100, 5.2]])
    spike, over_fits = sentences(result)
    assert names(result) == ["takes too large a step", "over-fits from step 20 on"]
    assert "4.000 at the first step, 4.620 over steps 3 to 7, back at the first's by step 12" in spike
    assert "4.800 there, 5.200 at the end" in over_fits
    result |= held_out_at([[0, 3.7], [5, 4.9], [10, 4.6], [20, 5.0], [50, 5.0], [100, 5.0]])
    assert names(result) == ["takes too large a step"]  # the rise is over before the training loss is back
    result["train_loss"] = [4.0, *[4.19] * 50, *[3.9] * 49]  # 0.2 and no more is a batch that is hard
    assert names(result)[:1] != ["takes too large a step"]
    result["train_loss"] = [4.0, *[4.21] * 99]
    assert names(result) == ["takes too large a step"] and "never back" in sentences(result)[0]


def test_diverged():
    gone = diverged()
    assert names(gone) == ["diverged after step 2"] and names(diverged(losses=())) == ["diverged after step 0"]
    assert judge(runs_of([gone]))[1] == {}  # not one line for each rule: no model


@pytest.mark.parametrize(("done", "patience", "early"), [(60, 3, True), (100, 3, False), (60, None, False)])
def test_a_run_ended_by_its_patience_says_so(done, patience, early):
    result = run() | {"train_loss": [4.0] * done}
    result["settings"]["patience"] = patience
    said = "ended early after step 60, as the held-out loss had not fallen for 3 measurements"
    assert names(result) == [said] * early and (said in conclusion(runs_of([result]))[1]) == early


# The answer


def stopped(lr: float, points: dict, seed: int = 0, halves: dict | None = None, **changes) -> dict:
    """A run with the held-out losses `points`, {step: loss}; the base model's is 4."""
    return run(lr, seed, **changes) | held_out_at([[0, 4.0], *map(list, points.items())], halves)


def best_of(*results):
    (verdict,) = [v for v in judge(runs_of([*results]))[0] if v.seed is None]
    return verdict


def test_the_answer():
    """3e-4 is chosen by the first half at step 20, and the second half reports; it would have chosen 1e-3, step 10."""
    base = {0: [4.0, 4.1]}
    results = [
        stopped(1e-3, {10: 3.6, 100: 4.5}, halves=base | {10: [3.7, 3.5]}),
        stopped(3e-4, {20: 3.5, 40: 3.4, 100: 4.0}, halves=base | {20: [3.45, 3.62], 40: [3.5, 3.3]}, ratio=0.55),
        stopped(1e-4, {100: 3.75}, halves=base),
    ]
    results[0]["train_loss"] = [4.0] * 90 + [2.0] * 10
    verdict = best_of(*results)
    assert (verdict.run, verdict.name) == ("3e-4", "fits best, but within the noise")
    assert verdict.sentence == (
        "Stopped in time, 3e-4 fits best: it reaches a loss of 3.620 (perplexity 37.3) at step 20 "
        "(9.1 readings of the training text), down from 4.100. "  # 20 x 16 x 256 / 9000
        "The first half of the held-out text chose the rate and the step, the second half reports. "
        "As good within the noise: 1e-3 at step 10, 2 times as soon."
    )
    others = "would choose 1e-3 by training loss (2.000) and 3e-4 by ratio (0.550, the book's own is 0.558)."
    assert conclusion(runs_of(results))[0] == f"{verdict.sentence} The exercise's own numbers, at the end, {others}"
    for result in results:  # the texts were drawn by other probabilities, which are 0.03 lower than the ratio
        result["settings"] = result["settings"] | {"top_k": 50}
    results[2]["after"] = evaluation(0.59)
    assert "1e-4 by ratio without top-k (0.560, the" in conclusion(runs_of(results))[0]


@pytest.mark.parametrize(("second", "name"), [(3.529, "fits best, but within the noise"), (3.531, "fits best")])
def test_the_best_fit_with_one_seed(second, name):
    """The runner-up is 1 % of 3.495 = 0.03495 away, or just not."""
    verdict = best_of(stopped(1e-3, {10: second}), stopped(1e-4, {10: 3.495}), stopped(1e-5, {10: 3.9}))
    assert (verdict.run, verdict.name) == ("1e-4", name)
    assert ("within the noise: 1e-3 at step 10, as soon." in verdict.sentence) == (second == 3.529)


@pytest.mark.parametrize(("shift", "name"), [(0.0199, "fits best, but within the noise"), (0.0201, "fits best")])
def test_the_best_fit_with_several_seeds(shift, name):
    """Losses 0.01 around their means, twice: variance 2e-4 each, standard error sqrt(2e-4) = 0.01414; twice that."""
    results = [stopped(1e-4, {30: 3.49}), stopped(1e-4, {50: 3.51}, 1)]
    results += [stopped(1e-5, {62: 3.49 + 1.4142 * shift}), stopped(1e-5, {82: 3.51 + 1.4142 * shift}, 1)]
    verdict = best_of(*results)
    assert (verdict.run, verdict.name) == ("1e-4", name)
    assert "(perplexity 33.1, mean of 2 seeds) at steps 30 to 50 (18.2 readings" in verdict.sentence
    assert ("1e-5 at steps 62 to 82, 1.8 times as late." in verdict.sentence) == (shift == 0.0199)


def test_the_base_model_may_be_as_good_or_fit_best():
    def answer(first, second):
        return best_of(stopped(1e-3, {10: 4.2}), stopped(1e-4, {10: 3.9}, halves={10: [first, second]})).sentence

    as_good = "As good within the noise: the base model."
    assert as_good in answer(3.9, 3.961) and as_good not in answer(3.9, 3.960)  # 1 % above are 4.0006 and 3.9996
    assert "4.010 (perplexity 55.1) at step 10 (4.6 readings of the training text), the base model has" in answer(
        3.999, 4.01
    )
    assert answer(4.0, 3.8) == "No rate gains anything on this text: the base model fits best."


@pytest.mark.parametrize(
    ("rates", "step", "tries"),
    [
        ((1e-3, 3e-4, 1e-4), 99, ""),
        ((1e-3, 3e-4, 1e-4), 100, " The loss was still falling at the end: try more than 100 steps."),
        ((1e-3, 3e-4), 99, " 3e-4 is the smallest rate: try 1e-4 too."),
        ((3e-4, 1e-4), 99, " 3e-4 is the largest rate: try 1e-3 too."),
        ((3e-4,), 99, ""),
    ],
)
def test_what_to_try_next(rates, step, tries):
    results = [stopped(lr, {step: 3.5 if lr == 3e-4 else 3.8}) for lr in rates]
    assert best_of(*results).sentence.split("reports.")[1] == tries


def test_the_answer_for_one_rate_and_for_diverged_ones():
    one = best_of(stopped(1e-4, {10: 3.5}))
    assert one.run is None and one.sentence.startswith("Stopped in time, 1e-4 reaches a loss of 3.500 (")
    assert "text chose the step, the" in one.sentence and "exercise" not in conclusion(runs_of([stopped(1e-4, {})]))[0]
    gone = diverged(1e-2) | held_out_at([[0, 4.0], [1, 3.4]])
    assert (
        best_of(gone, stopped(1e-3, {10: 3.5}), stopped(1e-4, {10: 3.9})).run == "1e-2"
    )  # measured before it diverged
    results = [nothing_held_out(run(1e-3)), run(1e-4)]
    assert next(iter(judge(runs_of(results))[1])) == ("fits best", "nothing was held out")
    answer = conclusion(runs_of(results))[0]
    assert answer.startswith("Which learning rate fits best cannot be said: nothing was held out. The exercise's own ")


def test_without_its_numbers_a_verdict_is_not_made():
    verdicts, not_made = judge(runs_of([nothing_held_out(run())]))
    assert verdicts == [] and {name: reason for (name, reason), labels in not_made.items() if labels} == {
        "over-fits": "no held-out loss during training",
        "ends worse than it began": "nothing was held out",
        "has memorised passages": "too little text for extraction was trained on or held out",
    }
    short = run()
    short["after"]["extraction"] |= {"held_out": None, "held_out_ci": None}
    assert [name for (name, _), labels in judge(runs_of([short]))[1].items() if labels] == ["has memorised passages"]


# Levers


def ended(lr: float, loss: float, seed: int = 0, **levers) -> dict:
    """A run with this held-out loss at its end."""
    return with_levers(
        stopped(lr, {10: 3.5, 100: loss}, seed, held_out={"loss": loss, "halves": [loss, loss]}), **levers
    )


def test_nothing_is_averaged_over_levers():
    """At 3e-4 the run with a leash has 3.2 and the plain one 3.8. Their mean, 3.5, is the loss at 1e-4."""
    leash, results = {"leash": 2.0}, [stopped(3e-4, {10: 3.8}), stopped(1e-4, {10: 3.5}), stopped(1e-3, {10: 3.9})]
    leashed = with_levers(stopped(3e-4, {20: 3.2}, copied=0.15, copied_ci=[0.1, 0.2]), **leash)
    verdict = best_of(leashed, *results)
    assert (verdict.run, verdict.name) == ("3e-4 leash 2", "fits best")
    assert "Stopped in time, 3e-4 leash 2 fits best: it reaches a loss of 3.200 (" in verdict.sentence
    assert "chose the lever, the rate and the step" in verdict.sentence
    assert "rate: try" not in verdict.sentence  # of this lever there is one
    found = conclusion(runs_of([leashed, *results]))
    assert "choose 1e-3 by training loss (4.000)" in found[0]
    assert found[1] == "3e-4 leash 2 copies; no other rule applies to 1e-3, 3e-4 and 1e-4."
    more = with_levers(stopped(1e-4, {20: 3.4}), **leash)
    assert "3e-4 leash 2 is the largest rate: try 1e-3 leash 2 too." in best_of(leashed, more, *results).sentence


def test_readings_are_those_of_the_batch_that_fits_best():
    """20 x 16 x 256 / 9000, though the run with 4 windows comes first."""
    small = with_levers(stopped(1e-4, {20: 3.5}), batch_size=4)
    assert "(9.1 readings" in best_of(stopped(1e-4, {20: 3.2}), small).sentence


def test_of_many_that_are_as_good_five_are_named():
    results = [with_levers(stopped(1e-4, {step: 3.5 + 1e-4 * step}), leash=float(step)) for step in range(8, 80, 8)]
    sentence = best_of(*results).sentence
    assert "1e-4 leash 8 fits best" in sentence
    assert "noise: 1e-4 leash 16 at step 16, 2 times as late; " in sentence
    assert "; 1e-4 leash 48 at step 48, 6 times as late; and 3 more." in sentence


def test_the_width_of_a_valley():
    """The best is 3.500; 3.529 is within 0.03 of it and 3.531 is not."""
    plain = [ended(1e-3, 3.9), ended(1e-4, 3.529), ended(1e-5, 3.531)]
    linear = [ended(lr, loss, schedule="linear") for lr, loss in ((1e-3, 3.529), (3e-4, 3.6), (1e-4, 3.5), (1e-5, 3.7))]
    leash = [ended(1e-4, loss, seed, leash=2.0) for seed, loss in enumerate((3.4, 3.7))]  # 3.55
    norms = [with_levers(diverged(1e-2), train="norms")]
    titles, *found = valleys(runs_of([*plain, *linear, *leash, *norms]))
    assert titles == ["lever", "lowest held-out loss at the end", "its rate", "width of the valley"]
    assert found == [
        ["plain", "3.529", "1e-4", "1 (1e-4)"],
        ["linear", "3.500", "1e-4", "10 (1e-4 to 1e-3)"],
        ["leash 2", "3.550", "1e-4", "none"],
        ["norms only", "diverged", "1e-2", "none"],
    ]
    said = conclusion(runs_of([*plain, *linear, *leash]))
    assert not any(s.startswith("Ratio at") for s in said)
    assert any(s.endswith("best of all: plain, 1 (1e-4); linear, 10 (1e-4 to 1e-3); leash 2, none.") for s in said)
    tie = [ended(1e-3, 3.5), ended(1e-4, 3.5), ended(1e-4, 3.5, leash=1.0)]
    assert [row[2:] for row in valleys(runs_of(tie))[1:]] == [["1e-3", "10 (1e-4 to 1e-3)"], ["1e-4", "1 (1e-4)"]]
    # Each rate with its own steps, as a search has them: no rate was run with two levers.
    assert valleys(runs_of([ended(1e-3, 3.5, samples=30), ended(1e-4, 3.5, samples=45)])) == []
    some = [ended(1e-4, 3.5), diverged(1e-4, seed=1), *linear]  # a rate at which a seed diverged is in no valley
    assert valleys(runs_of(some))[1] == ["plain", "diverged", "1e-4", "none"]
    assert valleys(runs_of([diverged(1e-2), *norms]))[1][1:] == ["diverged", "1e-2", "none"]
    assert valleys(runs_of(plain)) == [] and not any("valley" in s for s in conclusion(runs_of(plain)))
    assert valleys(runs_of(list(map(nothing_held_out, [*plain, *linear])))) == []


# The conclusion


def test_the_conclusion_is_made_from_the_verdicts():
    results = [
        diverged(1e-2, [4.0] * 7),
        run(1e-3, **loss(4.5), copied=0.15, copied_ci=[0.1, 0.2]),
        run(1e-4, **loss(3.5)),
        run(1e-5, **loss(3.9)),
    ]
    found = conclusion(runs_of(results))
    assert found[0].startswith("No rate gains anything on this text: the base model fits best. The exercise's own num")
    marked = "1e-2 diverged after step 7; 1e-3 ends worse than it began and copies"
    assert found[1] == f"{marked}; no other rule applies to 1e-4 and 1e-5."
    short = [result | {"samples": 99} for result in results]
    assert conclusion(runs_of(short))[1] == found[1]
    assert conclusion(runs_of(short))[-1] == "Only a trial, with fewer than 100 steps: too few for an outcome."
    assert conclusion(runs_of([diverged(losses=())])) == [
        "No rate gains anything on this text: the base model fits best.",
        "1e0 diverged after step 0.",
    ]
    assert conclusion(runs_of([run()]))[1] == "No other rule applies to 1e-4."


def test_seeds_that_disagree_are_counted():
    copying = {"copied": 0.15, "copied_ci": [0.1, 0.2]}
    results = [run(1e-4, 0, **copying), run(1e-4, 1), run(1e-5, 0, **loss(4.5)), run(1e-5, 1, **loss(4.5))]
    assert any(sentence.startswith("1e-4, seed 0 copies: 15.0 % (10.0 to 20.0 %)") for sentence in sentences(*results))
    assert conclusion(runs_of(results))[1] == "1e-4 copies (1 of 2 seeds); 1e-5 ends worse than it began."
    gone = [diverged(1e-2, [4.0] * 7), diverged(1e-2, [4.0] * 9, seed=1)]
    assert conclusion(runs_of(gone))[1] == "1e-2 diverged."  # the two seeds at other steps


# Chance


def test_a_change_of_the_ratio_within_the_noise_is_called_noise():
    """The paired difference: here every text gains as much, there the gain is a normal number with mean 0."""
    gained = run(1e-3, ratio=0.6)
    noisy = run(1e-5)
    gain = np.random.default_rng(0).normal(0, 0.1, 100)
    noisy["after"]["shares"] = (np.array(noisy["before"]["shares"]) + gain).tolist()
    change, (low, high) = paired_difference(noisy["before"], noisy["after"])
    assert change == pytest.approx(gain.mean()) and (high - low) / 2 == pytest.approx(1.96 * gain.std() / 10, rel=0.1)
    found = conclusion(runs_of([gained, noisy]))
    assert "Ratio at 1e-3: 0.500 before, 0.600 after, a change of +0.100 (+0.100 to +0.100)." in found
    lost = conclusion(runs_of([run(1e-3, ratio=0.4)]))
    assert "Ratio at 1e-3: 0.500 before, 0.400 after, a change of -0.100 (-0.100 to -0.100)." in lost
    assert any(s.startswith("Ratio at 1e-5: 0.500 b") and s.endswith("within the noise of the writing.") for s in found)


def test_perplexity_of_any_loss():
    # e^3.495 = 32.9504, e^8 = 2980.96
    assert [perplexity(x) for x in (0.0, 3.495, 8.0, 1e4)] == ["1.0", "33.0", "2,981", "over a million"]
