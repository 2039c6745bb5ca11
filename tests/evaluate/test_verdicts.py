"""Every verdict on numbers made by hand, on both sides of its threshold; the conclusion; chance."""

import numpy as np
import pytest

from evaluate.chance import sampling_noise, training_noise
from evaluate.results import paired_difference, runs_of
from evaluate.verdicts import RULES, conclusion, judge, perplexity
from tests.evaluate.handmade import STEPS, diverged, evaluation, nothing_held_out, result_of, with_losses


def run(lr=1e-4, seed=0, **changes) -> dict:
    """A run on which no rule has anything to say; `changes` are of its evaluation after training."""
    return result_of(lr, seed, after=evaluation(**changes))


def sentences(*results) -> list[str]:
    return [verdict.sentence for verdict in judge(runs_of([*results]))[0]]


def names(result: dict) -> list[str]:
    return [f"{v.name} {v.when}".strip() for v in judge(runs_of([result]))[0]]


def test_a_quiet_run_gets_no_verdict_and_misses_none():
    verdicts, not_made = judge(runs_of([run()]))
    assert verdicts == [] and [(name, labels) for (name, _), labels in not_made.items()] == [("fits best", [])]
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


def test_learning_is_a_verdict_too():
    result = run()
    result |= held_out_at([[0, 4.0], [50, 3.98], [100, 3.959]])
    assert names(result) == names(result | held_out_at([[0, 4.0], [100, 3.9]])) == ["learns to the end"]
    assert "4.000 before, 3.959 at step 100, still falling" in sentences(result)[0]
    result["held_out_loss"][1][1] = 3.95
    assert names(result) == ["learns until step 50"] and "3.950 at step 50." in sentences(result)[0]
    result |= held_out_at([[0, 4.0], [50, 3.961], [100, 3.98]])  # less than 1 % down
    assert names(result) == []


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


def test_what_was_measured_on_the_way_is_held_against_the_same():
    """Of a long text that is a part of it, here an easier one."""
    falling = run(1e-5, **loss(4.6)) | held_out_at([[0, 4.0], [50, 3.8], [100, 3.6]])
    turned = run(1e-4, **loss(4.8)) | held_out_at([[0, 4.0], [50, 3.9], [100, 3.95]])
    assert "; it was still falling at the end; yet" in best_of(turned, falling).sentence


def test_the_best_fit_tells_what_stopping_would_change():
    falling = run(1e-5, **loss(3.6)) | held_out_at([[0, 4.0], [50, 3.8], [100, 3.6]])
    turned = run(1e-4, **loss(3.8)) | held_out_at([[0, 4.0], [50, 3.62], [100, 3.8]])
    sentence = best_of(turned, falling).sentence
    assert sentence.endswith("(a gap of 5.6 %); it was still falling at the end; 1e-4 was as good at step 50 (3.620).")
    turned["held_out_loss"][1][1] = 3.55
    assert "1e-4 was better at step 50 (3.550)" in best_of(turned, falling).sentence
    turned["held_out_loss"][1][1] = 3.64  # over 1 % above 3.6
    falling["held_out_loss"][1][1] = 3.5
    assert best_of(turned, falling).sentence.endswith("(a gap of 5.6 %).")


def test_diverged():
    gone = diverged()
    assert names(gone) == ["diverged after step 2"] and names(diverged(losses=())) == ["diverged after step 0"]
    assert [name for name, _ in judge(runs_of([gone]))[1]] == ["fits best"]  # not one line for each rule: no model


def best_of(*results):
    (verdict,) = [v for v in judge(runs_of([*results]))[0] if v.seed is None]
    return verdict


@pytest.mark.parametrize(("second", "name"), [(3.529, "fits best, but within the noise"), (3.531, "fits best")])
def test_the_best_fit_with_one_seed(second, name):
    """The runner-up is 1 % of 3.495 = 0.03495 away, or just not."""
    verdict = best_of(run(1e-3, **loss(second)), run(1e-4, **loss(3.495)), run(1e-5, **loss(3.9)))
    assert (verdict.lr, verdict.name) == (1e-4, name)
    assert f"1e-4 fits best: held-out loss 3.495 (perplexity 33.0), ahead of 1e-3 with {second}" in verdict.sentence


@pytest.mark.parametrize(("shift", "name"), [(0.0199, "fits best, but within the noise"), (0.0201, "fits best")])
def test_the_best_fit_with_several_seeds(shift, name):
    """Losses 0.01 around their means, twice: variance 2e-4 each, standard error sqrt(2e-4) = 0.01414; twice that."""
    losses = {1e-4: (3.49, 3.51), 1e-5: (3.49 + 1.4142 * shift, 3.51 + 1.4142 * shift)}
    results = [run(lr, seed, **loss(one)) for lr, both in losses.items() for seed, one in enumerate(both)]
    verdict = best_of(*results)
    assert (verdict.lr, verdict.name) == (1e-4, name) and "mean of 2 seeds" in verdict.sentence


def test_the_best_fit_is_not_always_good_or_comparable():
    assert "no better than the base model's 4.000" in best_of(run(1e-3, **loss(4.2)), run(1e-4)).sentence
    assert "no better" not in best_of(run(1e-3), run(1e-4, **loss(3.9))).sentence
    assert best_of(diverged(1e-2), run(1e-3), run(1e-4, **loss(3.9))).lr == 1e-4
    for spoiled, reason in (
        (diverged(1e-3), "fewer than two learning rates finished"),
        (nothing_held_out(run(1e-3)), "nothing was held out"),
    ):
        _, not_made = judge(runs_of([spoiled, run(1e-4)]))
        assert next(iter(not_made)) == ("fits best", reason)
        assert f"Which learning rate fits best cannot be said: {reason}." in conclusion(runs_of([spoiled, run(1e-4)]))


def test_without_its_numbers_a_verdict_is_not_made():
    verdicts, not_made = judge(runs_of([nothing_held_out(run())]))
    assert verdicts == [] and {name: reason for (name, reason), labels in not_made.items() if labels} == {
        "learns": "no held-out loss during training",
        "over-fits": "no held-out loss during training",
        "ends worse than it began": "nothing was held out",
        "has memorised passages": "too little text for extraction was trained on or held out",
    }
    short = run()
    short["after"]["extraction"] |= {"held_out": None, "held_out_ci": None}
    assert [name for (name, _), labels in judge(runs_of([short]))[1].items() if labels] == ["has memorised passages"]


# The conclusion


def test_the_conclusion_is_made_from_the_verdicts():
    results = [
        diverged(1e-2, [4.0] * 7),
        run(1e-3, **loss(4.5), copied=0.15, copied_ci=[0.1, 0.2]),
        run(1e-4, **loss(3.5)),
        run(1e-5, **loss(3.9)),
    ]
    found = conclusion(runs_of(results))
    assert found[0].startswith("1e-4 fits best: held-out loss 3.500")
    marked = "1e-2 diverged after step 7; 1e-3 ends worse than it began and copies"
    assert found[1] == f"{marked}; no other rule applies to 1e-4 and 1e-5."
    short = [result | {"samples": 99} for result in results]
    assert conclusion(runs_of(short))[1] == found[1]
    assert conclusion(runs_of(short))[-1] == "Only a trial, with fewer than 100 steps: too few for an outcome."
    assert conclusion(runs_of([diverged(losses=())])) == [
        "Which learning rate fits best cannot be said: fewer than two learning rates finished.",
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
    assert any(s.startswith("Ratio at 1e-3 against 1e-5: +0.") and "more than the noise" in s for s in found)
    found = conclusion(runs_of([noisy, noisy | {"lr": 1e-6}]))
    assert "Ratio at 1e-5 against 1e-6: +0.000 (+0.000 to +0.000), within the noise of the writing." in found


def test_noise_of_the_writing_is_told_from_noise_of_the_training():
    """Two seeds a rate: ratios 0.50 and 0.52 against 0.40 and 0.48: gap 0.07, standard error sqrt(1e-4 + 1.6e-3)."""
    ratios = {1e-3: (0.50, 0.52), 1e-4: (0.40, 0.48)}
    results = [nothing_held_out(run(lr, seed, ratio=r)) for lr, both in ratios.items() for seed, r in enumerate(both)]
    runs = runs_of(results)
    assert sampling_noise(runs) == [
        "Ratio at 1e-3, seed 0 against 1e-4, seed 0: +0.100 (+0.100 to +0.100), more than the noise of the writing.",
        "Ratio at 1e-3, seed 1 against 1e-4, seed 1: +0.040 (+0.040 to +0.040), more than the noise of the writing.",
    ]
    assert training_noise(runs) == [
        "Ratio at 1e-3 against 1e-4, over the seeds: +0.070 (+- 0.082), within the noise of the batches' order."
    ]
    assert training_noise(runs[::2]) == []  # one seed says nothing
    results[1]["after"] = None
    assert len(sampling_noise(runs_of(results))) == 1 and training_noise(runs_of(results)) == []
    held_out = [run(lr, seed, **loss(3 + 1e3 * lr + 0.1 * seed)) for lr in (1e-3, 1e-4) for seed in (0, 1)]
    # Standard error of the gap of 0.9: sqrt(0.005 / 2 + 0.005 / 2).
    sentence = "Held-out loss at 1e-3 against 1e-4, over the seeds: +0.900 (+- 0.141), more than the noise"
    assert training_noise(runs_of(held_out))[1].startswith(sentence)


def test_perplexity_of_any_loss():
    # e^3.495 = 32.9504, e^8 = 2980.96
    assert [perplexity(x) for x in (0.0, 3.495, 8.0, 1e4)] == ["1.0", "33.0", "2,981", "over a million"]
