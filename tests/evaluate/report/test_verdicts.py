"""Every verdict on figures made by hand, on both sides of its threshold."""

import pytest

from evaluate.report.verdicts import RULES, RULES_OF_ONE_RUN, answer, judge, perplexity

SAMPLES = 100


def evaluation(**changes) -> dict:
    return {
        "ratio": 0.5,
        "ratio_ci": [0.48, 0.52],
        "shares": [0.4, 0.6] * 50,
        "untruncated_ratio": 0.5,
        "untruncated_shares": [0.4, 0.6] * 50,
        "divergence": 0.04,
        "divergence_ci": [0.03, 0.05],
        "copied": 0.001,
        "copied_ci": [0.0, 0.002],
        "extraction": {"training": 0.06, "training_ci": [0.05, 0.07], "held_out": 0.06, "held_out_ci": [0.05, 0.07]},
        "distinct": [0.2, 0.7, 0.9],
        "repeated": 0.01,
        "held_out": {"loss": 4.0, "perplexity": 54.6},
        "forgetting": {"base_texts": {"kl": 0.05, "kl_ci": [0.04, 0.06]}},
    } | changes


def run(lr=1e-4, seed=0, **changes) -> dict:
    """A run on which no rule has anything to say; `changes` are of its evaluation after training."""
    return {
        "lr": lr,
        "samples": SAMPLES,
        "seed": seed,
        "train_loss": [4.0] * SAMPLES,
        "held_out_loss": [[0, 4.0], [50, 4.0], [100, 4.0]],
        "held_out_tokens": 1000,
        "before": evaluation(),
        "after": evaluation(**changes),
        "book": {"distinct": [0.2, 0.7, 0.9], "repeated": 0.01},
        "settings": {"seq_len": 128},
    }


def names(result: dict) -> list[str]:
    return [f"{v.name} {v.when}".strip() for v in judge([result])[0]]


def test_a_quiet_run_gets_no_verdict_and_misses_none():
    verdicts, not_made = judge([run()])
    assert verdicts == [] and [(one.name, one.run) for one in not_made] == [("fits best", "")]
    assert {name for name, *_ in RULES_OF_ONE_RUN} | {"fits best"} == {name for name, _ in RULES}


def extraction(low, held_out_high):
    parts = {"training": 0.5, "training_ci": [low, 0.6], "held_out": 0.1, "held_out_ci": [0.05, held_out_high]}
    return {"extraction": parts}


def forgetting(kl, low):
    return {"forgetting": {"base_texts": {"kl": kl, "kl_ci": [low, 2 * kl]}}}


def loss(nats):
    return {"held_out": {"loss": nats}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"copied": 0.0101, "copied_ci": [0.0021, 0.03]}, ["copies"]),
        ({"copied": 0.01, "copied_ci": [0.0021, 0.03]}, []),  # not above 1 %
        ({"copied": 0.02, "copied_ci": [0.002, 0.03]}, []),  # not above the base model's interval
        (extraction(0.2001, 0.2), ["has memorised passages"]),
        (extraction(0.2, 0.2), []),
        (forgetting(0.12, 0.101), ["forgets"]),
        (forgetting(0.12, 0.1), []),
        (forgetting(1.2, 1.001), ["forgets much"]),
        (forgetting(1.2, 1.0), ["forgets"]),
        ({"distinct": [0.2, 0.629, 0.9]}, ["loses variety"]),  # 0.9 x 0.7 = 0.63
        ({"distinct": [0.2, 0.631, 0.9]}, []),
        ({"repeated": 0.0601}, ["loses variety"]),  # 0.01 + 0.05
        ({"repeated": 0.0599}, []),
        ({"divergence_ci": [0.01, 0.0299]}, ["sounds more like the book"]),
        ({"divergence_ci": [0.01, 0.03]}, []),
        ({"divergence_ci": [0.0501, 0.06]}, ["sounds less like the book"]),
        ({"divergence_ci": [0.05, 0.06]}, []),
        (loss(4.041), ["ends worse than it began"]),
        (loss(4.039), []),
        (forgetting(0.0099, 0.009), ["cannot be told from the base model"]),
        (forgetting(0.01, 0.009), []),
        (forgetting(0.001, 0.0) | loss(3.959), []),  # the held-out loss changed by more than 1 %
        (forgetting(0.001, 0.0) | loss(3.961), ["cannot be told from the base model"]),
        (forgetting(0.001, 0.0) | {"shares": [0.41, 0.61] * 50}, []),  # every text gained: zero is not inside
        (forgetting(0.001, 0.0) | {"shares": [0.39, 0.61] * 50}, ["cannot be told from the base model"]),
    ],
)
def test_verdicts_on_both_sides_of_their_thresholds(changes, expected):
    assert names(run(**changes)) == expected


def test_the_base_model_is_the_control():
    """What the base model does as well is not the training's doing."""
    copying, poor = run(copied=0.2, copied_ci=[0.18, 0.22]), run(distinct=[0.1, 0.3, 0.5], repeated=0.3)
    assert names(copying) == ["copies"] and names(poor) == ["loses variety"]
    copying["before"]["copied_ci"] = [0.1, 0.19]
    poor["before"] |= {"distinct": [0.1, 0.3, 0.5], "repeated": 0.3}
    assert names(copying) == [] and names(poor) == []


def test_what_the_base_model_says_as_well_is_not_memorised():
    easy = run(**extraction(0.3, 0.2))
    assert names(easy) == ["has memorised passages"]
    easy["before"]["extraction"] = easy["before"]["extraction"] | {"training_ci": [0.2, 0.3]}
    assert names(easy) == []


def test_over_fitting_says_from_where():
    result = run()
    result["train_loss"] = [4 - 0.02 * i for i in range(SAMPLES)]
    result["held_out_loss"] = [[0, 4.0], [40, 3.5], [100, 3.6]]
    assert names(result) == ["learns until sample 40", "over-fits from sample 40 on"]
    assert "3.500 there, 3.600 at the end" in judge([result])[0][1].sentence
    result["held_out_loss"][-1][1] = 3.53  # less than 1 % up
    assert names(result) == ["learns until sample 40"]


def test_learning_is_a_verdict_too():
    result = run()
    result["held_out_loss"] = [[0, 4.0], [50, 3.98], [100, 3.959]]
    assert names(result) == ["learns to the end"]
    assert "4.000 before, 3.959 at sample 100, still falling" in judge([result])[0][0].sentence
    result["held_out_loss"][1][1] = 3.95
    assert names(result) == ["learns until sample 50"] and "its lowest" in judge([result])[0][0].sentence
    result["held_out_loss"] = [[0, 4.0], [50, 3.961], [100, 3.98]]  # less than 1 % down
    assert names(result) == []


def test_a_step_too_large_is_no_over_fitting():
    """The training loss jumps up, and the held-out loss with it; over-fitting begins where it has recovered, if at all."""
    result = run()
    rise = [
        4.0,
        4.2,
        4.6,
        4.7,
        4.7,
        4.6,
        4.5,
        4.1,
        3.9,
    ]  # samples 3 to 7 have a mean of 4.62; 7 to 11 are below 4 first
    result["train_loss"] = rise + [3.8 - 0.01 * i for i in range(SAMPLES - len(rise))]
    result["held_out_loss"] = [[0, 3.7], [5, 4.9], [10, 5.0], [20, 4.8], [50, 4.9], [100, 5.2]]
    sentences = [verdict.sentence for verdict in judge([result])[0]]
    assert names(result) == ["takes too large a step", "over-fits from sample 20 on"]
    assert "4.000 at the first sample, 4.620 over samples 3 to 7, back at the first's by sample 12" in sentences[0]
    assert "4.800 there, 5.200 at the end" in sentences[1]
    result["held_out_loss"] = [[0, 3.7], [5, 4.9], [10, 4.6], [20, 5.0], [50, 5.0], [100, 5.0]]
    assert names(result) == ["takes too large a step"]  # the rise is over before the training loss is back
    result["train_loss"] = [4.0, *[4.19] * 50, *[3.9] * 49]  # 0.2 and no more is a batch that is hard
    assert names(result)[:1] != ["takes too large a step"]
    result["train_loss"] = [4.0, *[4.21] * 99]
    assert names(result) == ["takes too large a step"] and "never back" in judge([result])[0][0].sentence
    result["train_loss"] = [4.0, *[5.5] * 99]
    assert names(result)[0] == "exploded" and "takes too large a step" not in names(result)


def test_what_was_measured_on_the_way_is_held_against_the_same():
    """Of a long text that is a part of it, here an easier one."""
    falling = run(1e-5, **loss(4.6)) | {"held_out_loss": [[0, 4.0], [50, 3.8], [100, 3.6]]}
    turned = run(1e-4, **loss(4.8)) | {"held_out_loss": [[0, 4.0], [50, 3.9], [100, 3.95]]}
    assert "; it was still falling at the end; yet" in best_of(turned, falling).sentence


def test_the_best_fit_tells_what_stopping_would_change():
    falling = run(1e-5, **loss(3.6)) | {"held_out_loss": [[0, 4.0], [50, 3.8], [100, 3.6]]}
    turned = run(1e-4, **loss(3.8)) | {"held_out_loss": [[0, 4.0], [50, 3.62], [100, 3.8]]}
    sentence = best_of(turned, falling).sentence
    assert sentence.endswith(
        "(a gap of 5.6 %); it was still falling at the end; 1e-4 was as good at sample 50 (3.620)."
    )
    turned["held_out_loss"][1][1] = 3.55
    assert "1e-4 was better at sample 50 (3.550)" in best_of(turned, falling).sentence
    turned["held_out_loss"][1][1] = 3.64  # over 1 % above 3.6
    falling["held_out_loss"][1][1] = 3.5
    assert best_of(turned, falling).sentence.endswith("(a gap of 5.6 %).")


def test_exploded_diverged_and_trial():
    result = run()
    result["train_loss"][-10:] = [5.001] * 10
    assert names(result) == ["exploded"]
    result["train_loss"][-10:] = [5.0] * 10
    assert names(result) == ["takes too large a step"]
    short = run() | {"samples": 99, "train_loss": [4.0] * 99}
    assert names(short) == ["is only a trial"]
    gone = run() | {"train_loss": [4.0, 9.0], "after": None}
    assert names(gone) == ["diverged after sample 2"]
    assert names(gone | {"train_loss": []}) == ["diverged after sample 0"]
    assert [one.name for one in judge([gone])[1]] == ["fits best"]  # not one line for each rule: there is no model


def best_of(*results):
    (verdict,) = [v for v in judge(list(results))[0] if v.seed is None]
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
    gone = run(1e-2) | {"after": None}
    assert best_of(gone, run(1e-3), run(1e-4, **loss(3.9))).lr == 1e-4
    for spoiled, reason in (
        (run(1e-3) | {"held_out_tokens": 999}, "different texts"),
        (run(1e-3) | {"settings": {"seq_len": 64}}, "different texts or windows"),
        (run(1e-3) | {"after": None}, "fewer than two"),
        (run(1e-3, held_out=None) | {"held_out_loss": []}, "no held-out loss"),
    ):
        _, not_made = judge([spoiled, run(1e-4)])
        assert not_made[0].name == "fits best" and reason in not_made[0].reason
        assert f"cannot be said: {not_made[0].reason}" in " ".join(answer([spoiled, run()], [], not_made))


def test_without_its_figures_a_verdict_is_not_made():
    nothing_held_out = run(held_out=None) | {"held_out_loss": [], "book": {}}
    nothing_held_out["before"]["held_out"] = None
    nothing_held_out["after"]["extraction"] |= {"held_out": None, "held_out_ci": None}
    verdicts, not_made = judge([nothing_held_out])
    assert verdicts == [] and {one.name: one.reason for one in not_made if one.run} == {
        "learns": "no held-out loss during training",
        "over-fits": "no held-out loss during training",
        "ends worse than it began": "no held-out loss",
        "has memorised passages": "held_out_ci is not in the result",
        "loses variety": "distinct is not in the result",
        "cannot be told from the base model": "no held-out loss",
    }
    short_text = run()
    short_text["after"]["extraction"] |= {"held_out": None, "held_out_ci": None}
    assert [one.reason for one in judge([short_text])[1] if one.run] == ["held_out_ci is not in the result"]


def test_the_answer_is_made_from_the_verdicts():
    results = [
        run(1e-2) | {"after": None, "train_loss": [4.0] * 7},
        run(1e-3, **loss(4.5), **forgetting(2.0, 1.9)),
        run(1e-4, **loss(3.5), divergence_ci=[0.001, 0.002]),
        run(1e-5, **loss(3.9)),
    ]
    sentences = answer(results, *judge(results))
    assert sentences[0].startswith("1e-4 fits best: held-out loss 3.500")
    assert sentences[1] == (
        "1e-2 diverged after sample 7; 1e-3 ends worse than it began and forgets much; "
        "1e-4 sounds more like the book; none of the rules below applies to 1e-5."
    )
    short = [result | {"samples": 99, "held_out_loss": []} for result in results]
    assert answer(short, *judge(short))[-1] == "Only a trial, with fewer than 100 samples: 1e-2, 1e-3, 1e-4 and 1e-5."


def test_seeds_that_disagree_are_counted():
    results = [
        run(1e-4, 0, copied=0.15, copied_ci=[0.1, 0.2]),
        run(1e-4, 1),
        run(1e-5, 0, **loss(4.5)),
        run(1e-5, 1, **loss(4.5)),
    ]
    verdicts, not_made = judge(results)
    assert "1e-4, seed 0 copies:" in "\n".join(v.sentence for v in verdicts)
    assert answer(results, verdicts, not_made)[1] == "1e-4 copies (1 of 2 seeds); 1e-5 ends worse than it began."


def test_perplexity_of_any_loss():
    # e^3.495 = 32.9504, e^8 = 2980.96
    assert [perplexity(x) for x in (0.0, 3.495, 8.0, 1e4)] == ["1.0", "33.0", "2,981", "over a million"]
