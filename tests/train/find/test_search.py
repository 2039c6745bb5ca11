"""The search on curves made by hand, and the command on a small model."""

import math

import pytest

import train.find.__main__ as find_command
from evaluate.results import Run, read_result
from model.pretrained import load_pretrained
from tests.evaluate.handmade import held_out_at, result_of
from train.find import search as searching
from train.find.search import MIDDLE, RATES, Search, at_equal_steps, by_the_clock
from train.run.run import texts_due


class Drawn(Search):
    """A search whose runs are read off `curve(lr, step)`, in nats; it counts the steps that it would have trained."""

    def __init__(self, curve, budget: int, patience: int = 3):
        self.curve, self.budget, self.patience = curve, budget, patience
        self.seed, self.runs, self.trained = 0, {}, {}

    def train(self, rate: int, steps: float, second_seed: bool = False) -> Run:
        lr, seed = RATES[rate], int(second_seed)
        steps = max(min(self.budget, math.ceil(steps)), self.trained.get((rate, seed), 0))
        points = [[0, self.curve(lr, 0)]]
        for step in range(1, steps + 1):
            if texts_due(step) is not None or step == steps:
                points.append([step, self.curve(lr, step) + 0.0001 * seed])
            if (
                len(points) > self.patience
                and points.index(min(points, key=lambda p: p[1])) < len(points) - self.patience
            ):
                break
        self.trained[rate, seed] = step
        self.runs[rate, seed] = Run(result_of(lr, seed, train_loss=[4.0] * step, **held_out_at(points)), f"{lr:g}")
        return self.runs[rate, seed]


def clock(turn: float, too_large: float = 1e-3, gain: float = 0.02):
    """Held-out losses that fall until rate x step is `turn`, and hardly depend on anything else: each half decade towards
    `too_large` costs `gain`, and from there on nothing is learned."""

    def curve(lr: float, step: int) -> float:
        if not step:
            return 4.0
        lost = gain * 2 * max(0.0, math.log10(lr / 1e-6))
        fall = 0.0 if lr >= too_large else 0.3 - lost
        return 4.0 - fall * (1 - math.log10(lr * step / turn) ** 2 / 4)

    return curve


@pytest.mark.parametrize("turn", [5e-4, 5e-3, 4e-2])
def test_the_clock_tells_how_long_the_others_take(turn):
    """The best rate that can turn within the budget is found; only the runs next to it are long."""
    search = Drawn(clock(turn), budget=800)
    middle = search.train(MIDDLE, 800)
    by_the_clock(search)
    affordable = [rate for rate, lr in enumerate(RATES) if RATES[MIDDLE] * middle.best_step / lr <= 800]
    assert search.ranked()[0] == affordable[0]
    assert search.runs[affordable[0], 0].best_step < len(search.runs[affordable[0], 0].train_loss) or turn > 1e-2
    # The grid of half decades, each with 800 steps, would cost more than twice as much.
    assert sum(search.trained.values()) < len(RATES) * 800 / 2


def test_larger_rates_are_tried_as_long_as_they_are_better():
    search = Drawn(
        lambda lr, step: clock(5e-3, too_large=1)(lr, step) + (0.1 * abs(math.log10(lr / 3e-3)) if step else 0), 800
    )
    search.train(MIDDLE, 800)
    by_the_clock(search)
    assert RATES[search.ranked()[0]] == 3e-3 and (RATES.index(1e-2), 0) in search.runs


def test_rates_that_are_close_get_a_second_seed():
    near, far = Drawn(clock(5e-3, gain=0.001), 200), Drawn(clock(5e-3, gain=0.1), 200)
    for search in (near, far):
        search.train(MIDDLE, 200)
        by_the_clock(search)
    assert sorted(rate for rate, seed in near.runs if seed) == sorted(near.ranked()[:2])
    assert not [seed for _, seed in far.runs if seed]
    assert near.loss(near.ranked()[0]) == pytest.approx(
        near.runs[near.ranked()[0], 0].stopped_in_time["held_out_loss"] + 5e-5
    )


@pytest.mark.parametrize(("best", "tried"), [(3e-5, {1e-5, 3e-5, 1e-4, 3e-4}), (3e-4, {3e-5, 1e-4, 3e-4, 1e-3})])
def test_a_text_that_does_not_turn_is_trained_at_equal_steps(best, tried):
    """Only the middle rate and the best of the others are trained to the end, and that costs a third of the grid."""
    search = Drawn(lambda lr, step: 4.0 - 0.1 * math.log(1 + step) / (1 + math.log10(lr / best) ** 2), budget=600)
    search.train(MIDDLE, 600)
    at_equal_steps(search)
    assert {RATES[rate] for rate, _ in search.runs} == tried and RATES[search.ranked()[0]] == best
    assert sorted(search.trained.values()) == [100, 100, 600, 600]


@pytest.fixture
def mine(model_folder, text_file, tmp_path):
    flags = ("--model", model_folder, "--text", text_file, "--seq-len", 16, "--samples", 40, "--out", tmp_path / "mine")
    return tmp_path / "mine", flags


def test_from_a_text_to_a_model(command, mine, monkeypatch):
    folder, flags = mine
    code, out, err = command(find_command.main, *flags)
    assert code == 0, err
    assert "a word" in out and "a step takes" in out and f"The model: {folder}/best" in out
    chosen = min(folder.glob("lr-*"), key=lambda run: Run(read_result(run), "").stopped_in_time["held_out_halves"][0])
    best = load_pretrained(folder / "best").state_dict()
    sources = [path for path in (chosen / "best", chosen) if (path / "model.safetensors").is_file()]
    assert all(best[name].equal(tensor) for name, tensor in load_pretrained(sources[0]).state_dict().items())
    assert not [*folder.rglob("checkpoint.safetensors")]

    monkeypatch.setattr(searching, "run", lambda *_: pytest.fail("trained again"))
    again = command(find_command.main, *flags)[1]
    assert again.splitlines()[-2:] == out.splitlines()[-2:]


def test_an_interrupted_search_goes_on(command, mine, monkeypatch):
    folder, flags = mine
    whole, runs = command(find_command.main, *flags)[1], []
    results = {path.name: read_result(path)["train_loss"] for path in folder.glob("lr-*")}
    plain = searching.run

    def stopped(baseline, job, signals):
        if len(runs) == 2:
            raise KeyboardInterrupt
        runs.append(job.label)
        return plain(baseline, job, signals)

    monkeypatch.setattr(searching, "run", stopped)
    assert command(find_command.main, *flags, "--overwrite")[0] == 130
    assert len([*folder.glob("lr-*/result.json")]) == 2
    monkeypatch.setattr(searching, "run", plain)
    assert command(find_command.main, *flags)[1].splitlines()[-2:] == whole.splitlines()[-2:]
    assert {path.name: read_result(path)["train_loss"] for path in folder.glob("lr-*")} == results


def test_wrong_input(refused, mine, tmp_path):
    _, flags = mine
    short = tmp_path / "short.txt"
    short.write_text("a ship\n", encoding="utf-8")
    assert "needs 17" in refused(find_command.main, *flags, "--text", short)
    assert "--patience" in refused(find_command.main, *flags, "--patience", 0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").touch()
    assert "thesis.doc" in refused(find_command.main, *flags)
