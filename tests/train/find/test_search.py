"""The search on curves made by hand, and the command on a small model."""

import math
import signal

import pytest

import train.find.__main__ as find_command
from evaluate.results import Run, halves, read_result
from model.hub import MODEL_FILES
from model.pretrained import load_pretrained
from tests.evaluate.handmade import evaluation, held_out_at, result_of
from train.find import search as searching
from train.find.search import RATES, Search, say, search_rate
from train.run import run as running
from train.run.card import FIRST_WORDS
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


def clock(turn: float, too_large: float = 1e-3, gain: float = 0.01):
    """Losses that fall until rate x step is `turn` and depend on little else: each half decade of the rate costs
    `gain`, and from `too_large` on nothing is learned."""

    def curve(lr: float, step: int) -> float:
        fall = 0.0 if lr >= too_large else 0.3 - gain * 2 * math.log10(lr / 1e-6)
        return 4.0 - fall * (1 - math.log10(lr * step / turn) ** 2 / 4) if step else 4.0

    return curve


def late(lr: float, step: int) -> float:
    """As `clock`, but a smaller rate turns at a larger rate x step than its neighbour lets expect."""
    return clock(5e-3 * (1e-4 / lr) ** 0.5)(lr, step)


def new_text(best: float, drift: float = 0.4):
    """Losses that never turn: after 100 steps the rate `best` is lowest, and the more steps, the smaller it is."""

    def curve(lr: float, step: int) -> float:
        off = math.log10(lr / best) + drift * math.log10(max(step, 1) / 100)
        return 4.0 - 0.1 * math.log(1 + step) / (1 + off**2)

    return curve


@pytest.mark.parametrize("budget", [300, 800])
@pytest.mark.parametrize(
    "curve",
    [
        late,
        *map(clock, (5e-4, 5e-3, 4e-2)),
        clock(5e-3, too_large=3e-5),
        clock(2e-2, 1, -0.01),
        *map(new_text, (1e-4, 3e-4, 2e-3)),
    ],
)
def test_the_search_finds_what_an_exhaustive_grid_finds(curve, budget):
    """Every half decade with all steps: the best is at most half a decade away, its loss within 1 %. And half of the
    steps that seven of them take are enough."""
    search, grid = Drawn(curve, budget), Drawn(curve, budget, patience=99)
    search_rate(search)
    for rate in range(len(RATES)):
        grid.train(rate, budget)
    (found, *_), (best, *_) = search.ranked(), grid.ranked()
    run = search.runs[found, 0]
    assert run.best_step < len(run.train_loss) or len(run.train_loss) == budget  # it is not left while it falls
    assert abs(found - best) <= 1 and search.loss(found) < 1.01 * grid.loss(best)
    assert sum(search.trained.values()) <= 7 * budget / 2


def test_rates_that_are_close_get_a_second_seed():
    near, far = Drawn(clock(0.1, 1, gain=-0.0005), 500), Drawn(clock(0.1, 1, gain=-0.02), 500)
    for search in (near, far):
        search_rate(search)
    best, second = near.ranked()[:2]
    assert {rate for rate, seed in near.runs if seed} == {best, second} and not any(seed for _, seed in far.runs)
    assert near.loss(best) == pytest.approx(near.runs[best, 0].stopped_in_time["held_out_loss"] + 5e-5)


@pytest.mark.parametrize("turns", [True, False])
def test_the_model_is_that_of_the_better_seed_where_it_was_best(turns, tmp_path, capsys):
    search = Drawn(clock(5e-3), 800)
    search.folder = tmp_path
    for seed, loss in enumerate((3.6, 3.5)):
        points = held_out_at([[0, 4.0], [50, loss], [100, 3.7 if turns else loss - 0.1]])
        run = Run(
            result_of(1e-4, seed, best=evaluation() if turns else None, **points), f"seed {seed}", tmp_path / f"{seed}"
        )
        for folder, name in (
            (run.folder, f"{FIRST_WORDS} last {seed}"),
            (run.folder / "best", f"{FIRST_WORDS} best {seed}"),
        ):
            folder.mkdir()
            for file in (*MODEL_FILES, "README.md"):
                (folder / file).write_text(name)
        search.runs[RATES.index(1e-4), seed] = run
    say(search)
    assert {file.read_text() for file in (tmp_path / "best").iterdir()} == {
        f"{FIRST_WORDS} {'best' if turns else 'last'} 1"
    }
    assert ("3.550" if turns else "3.450") in capsys.readouterr().out  # the mean of both
    assert (tmp_path / "0" / "best").exists() == turns  # the last weights are the best


@pytest.fixture
def mine(model_folder, text_file, tmp_path):
    flags = ("--model", model_folder, "--text", text_file, "--seq-len", 16, "--samples", 40, "--out", tmp_path / "mine")
    return tmp_path / "mine", flags


def test_from_a_text_to_a_model(command, mine, monkeypatch):
    folder, flags = mine
    code, out, err = command(find_command.main, *flags)
    assert code == 0, err
    assert "a word" in out and "a step takes" in out and f"The model: {folder}/best" in out
    chosen = min(folder.glob("lr-*"), key=lambda run: halves(Run(read_result(run), "").stopped_in_time)[0])
    best = load_pretrained(folder / "best").state_dict()
    sources = [path for path in (chosen / "best", chosen) if (path / "model.safetensors").is_file()]
    assert all(best[name].equal(tensor) for name, tensor in load_pretrained(sources[0]).state_dict().items())
    assert not [*folder.rglob("checkpoint.safetensors")]

    monkeypatch.setattr(searching, "run", lambda *_: pytest.fail("trained again"))
    again = command(find_command.main, *flags)
    assert again[1].split("\n\n")[-1] == out.split("\n\n")[-1], again


def test_an_interrupted_search_goes_on(command, mine, monkeypatch):
    """It ends in the middle of a run that goes on from a shorter one."""
    folder, flags = mine
    whole, add = command(find_command.main, *flags)[1], running.Recorder.add
    results = {path.name: read_result(path)["train_loss"] for path in folder.glob("lr-*")}

    def stopped(recorder, loss):
        if recorder.optimizer.steps == 20:
            signal.raise_signal(signal.SIGTERM)
        add(recorder, loss)

    with monkeypatch.context() as patched:
        patched.setattr(running.Recorder, "add", stopped)
        assert command(find_command.main, *flags, "--overwrite")[0] == 128 + signal.SIGTERM
    [unfinished] = [path.parent for path in folder.glob("lr-*/run.json")]
    assert read_result(unfinished)["samples"] < 20  # of the short run
    assert command(find_command.main, *flags)[1].split("\n\n")[-1] == whole.split("\n\n")[-1]
    assert {path.name: read_result(path)["train_loss"] for path in folder.glob("lr-*")} == results


def test_wrong_input(refused, command, mine, tmp_path):
    _, flags = mine
    short = tmp_path / "short.txt"
    short.write_text("a ship\n", encoding="utf-8")
    assert "needs 17" in refused(find_command.main, *flags, "--text", short)
    assert "--patience" in refused(find_command.main, *flags, "--patience", 0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").touch()  # no reason for anything
    (tmp_path / "model" / "best").mkdir(parents=True)
    (tmp_path / "model" / "best" / "model.safetensors").touch()  # somebody's model
    for more in ((), ("--overwrite",)):
        assert "best is not of a search" in refused(find_command.main, *flags, "--out", tmp_path / "model", *more)
    longer = tmp_path / "longer.txt"
    longer.write_text("a ship and a sea\n" * 400, encoding="utf-8")
    assert command(find_command.main, *flags)[0] == 0
    assert "text_sha256 was" in refused(find_command.main, *flags, "--text", longer)
    assert "cannot go on; name another" in refused(find_command.main, *flags, "--samples", 80)
