"""Run folders, their `result.json`, and a run as tables, figures and sentences show it."""

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np

from data.files import write_text
from data.settings import LEVERS, Sampling, Training
from evaluate.intervals import Interval, t_interval

# Ratios that are expected from a model's probabilities, whatever its texts were drawn with: top-k, and words for it.
EXPECTED = {"without_top_k": (0, "without top-k"), "with_top_k": (Sampling.top_k, f"with top-k {Sampling.top_k}")}

# What commands write into a run's or a sweep's folder.
RESULT_FILE = "result.json"
IDENTITY_FILE = "run.json"  # what an unfinished run is; a finished one has it in its result
BEST_FOLDER = "best"  # in a run's folder: the model of its lowest held-out loss
TABLE_FILE = "table.md"
FIGURE_FILE, HELD_OUT_FILE, CLOCK_FILE = "learning_rates.png", "held_out_loss.png", "clock.png"
LEVERS_FILE, PRICE_FILE = "levers.png", "learning_and_moving.png"
TITLES = {  # of the figures
    FIGURE_FILE: "What the exercise sees",
    HELD_OUT_FILE: "What it hides",
    CLOCK_FILE: "The learning rate as a clock",
    LEVERS_FILE: "What makes the rate matter less",
    PRICE_FILE: "What learning costs",
}

# Runs may differ in these settings and share a table. The name of a run says those that are not the same in all.
VARIED = {
    "schedule": "{}".format,
    "warmup": "warm-up {}".format,
    "train": lambda part: f"last {part[5:]} blocks" if part[:5] == "last:" else f"{part.replace('mlp', 'MLPs')} only",
    "leash": "leash {:g}".format,
    "clip": "clip {:g}".format,
    "batch_size": "batch {}".format,
    "samples": "{} steps".format,
}
OFF = {name: getattr(Training, name) for name in LEVERS}  # values that are not named
PLAIN = "plain"  # what a run without a lever is called

# What is measured of a model on the held-out text and on the end of the training text; missing if nothing is held out.
LOSSES = ("held_out_loss", "held_out_windows", "training_text_loss")


class Evaluation(TypedDict):
    """What was measured of a model; every share is from 0 to 1. evaluate/measures says how."""

    ratio: float  # share of the written tokens that are among the book's 100 most frequent
    ratio_ci: Interval | None
    shares: list[float]  # the same, text by text
    without_top_k: float  # the ratio expected at temperature 1 without top-k, from the model's probabilities
    without_top_k_ci: Interval | None
    with_top_k: float  # the same with the exercise's top-k
    with_top_k_ci: Interval | None
    texts: list[str]  # the first of them, start token included
    copied: float  # share of the written tokens in copied runs
    copied_shares: list[float]  # the same, text by text
    longest_copy: dict  # tokens; passage; position in the text, in tokens
    distinct_2: float  # different 2-grams as a share of all, over as many texts as the book's
    extraction: dict  # training, held_out: share of the text's own tokens, or None; each with its _ci
    held_out_loss: NotRequired[float]  # nats per token
    held_out_windows: NotRequired[list[list[float]]]  # of each window: of the half that chooses, of the rest
    training_text_loss: NotRequired[float]  # on as many tokens of the training text
    forgetting: dict  # base_texts, general: kl, loss_increase (nats per token), each with its _ci
    continuations: list[dict]  # of each prompt: pieces, frequent (bool for each piece), copies
    seconds: float  # writing and measuring


class EvalPoint(TypedDict):
    """What was measured of a model during its training, with LOSSES as in `Evaluation`."""

    sample: int  # training steps so far
    kl: NotRequired[float]  # from the base model on the first of its own texts, nats per token
    continuations: NotRequired[list[dict]]  # of the first prompts


class Result(TypedDict):
    """A finished run, as `result.json` has it."""

    lr: float
    samples: int  # training steps asked for
    seed: int  # of batches and dropout
    train_loss: list[float]  # of each step, before its update, nats per token
    rates: list[float]  # the learning rate of each step
    checkpoints: list[EvalPoint]
    diverged: dict | None  # sample, what ("loss" or "gradient"), lr, dtype, device
    before: Evaluation  # of the base model
    after: Evaluation | None  # of the last weights; None: diverged
    best_step: int | None  # where the loss on the first half of the held-out text was lowest; 0: the base model's is
    best: Evaluation | None  # of the weights in best/; None: the last are the best, or no others were kept
    book: dict  # of the held-out text: ratio, ratio_ci, and the other measures that a text has by itself
    prompts: list[str]  # pieces of the book whose `continuations` are shown side by side
    shown: dict  # temperature and top_k of the continuations
    least_copy: int  # a run of this many tokens or more that stands in the training text counts as copied
    in_sample_ratio: float  # share of the whole book's tokens among its own 100 most frequent
    book_tokens: int
    held_out_tokens: int
    held_out_on_the_way: NotRequired[int]  # the losses of `checkpoints` are of the first of the held-out tokens
    settings: dict  # by the names of the flags; with model and text as they were found
    identity: dict  # what tells this run from others; see train/run/folder.py
    environment: dict  # versions, machine, and `seconds`: before, training, checkpoints (measuring in between), after


def digest(result: Result) -> str:
    """SHA-256 of a result's content, in hexadecimal."""
    return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()


def write_json(file: Path, content: dict) -> None:
    """Write `content` to `file`, as a whole or not at all."""
    # allow_nan=False: NaN is not JSON, and no other program could read the file.
    write_text(file, json.dumps(content, indent=1, allow_nan=False))


def write_result(folder: Path, result: Result) -> None:
    """Write `result.json` with its digest, which tells its readers whether it was changed by hand."""
    write_json(folder / RESULT_FILE, result | {"sha256": digest(result)})


def all_finite(measured: dict) -> bool:
    """Whether every number in `measured` can be written as JSON, which has neither NaN nor infinity."""
    try:
        return bool(json.dumps(measured, allow_nan=False))
    except ValueError:
        return False


def read_json(file: Path) -> dict:
    """The content of `file`; {} if it cannot be read or is something else."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        content = {}
    return content if isinstance(content, dict) else {}


def is_ours(file: Path, key: str = "identity") -> bool:
    """Whether `file` is a result, or another JSON file of ours, as its `key` shows: others give their files such names
    too."""
    return isinstance(read_json(file).get(key), dict | str)


def read_result(folder: Path) -> Result:
    """The result of a finished run, checked against its digest."""
    file = folder / RESULT_FILE
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        if result.pop("sha256", None) != digest(result):
            raise ValueError("its content does not match its sha256")
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error}); delete it and run again") from None
    missing = Result.__required_keys__ - result.keys() or Evaluation.__required_keys__ - result["before"].keys()
    if missing:
        raise ValueError(f"{file} is of another version: {', '.join(sorted(missing))} missing; delete it and run again")
    return result


def run_folders(paths: Iterable[str | Path]) -> list[Path]:
    """The run folders among `paths` and directly below them, each once. In the folder of a sweep only its own count."""
    found = []
    for path in map(Path, paths):
        below = [folder for folder in named_runs(path) if is_ours(folder / RESULT_FILE)]
        below = below or sorted(file.parent for file in path.glob(f"*/{RESULT_FILE}") if is_ours(file))
        own = path / RESULT_FILE
        folders = [path] if is_ours(own) or (own.is_file() and not below) else below
        if not folders:
            raise FileNotFoundError(f"no {RESULT_FILE} in {path} or directly below it; name a run or sweep folder")
        found += folders
    return list({folder.resolve(): folder for folder in found}.values())


def lr_label(lr: float) -> str:
    """A learning rate as people write it: 1e-4, 2.5e-5."""
    return np.format_float_scientific(lr, trim="-", exp_digits=1).replace("e+", "e")


def run_label(lr: float, seed: int, several_seeds: bool, lever: str = "") -> str:
    """A run by its learning rate and lever, and by its seed if there are several."""
    return f"{lr_label(lr)} {lever}".strip() + (f", seed {seed}" if several_seeds else "")


def lever_words(settings: dict, names: Iterable[str] = tuple(OFF)) -> list[str]:
    """Say the settings called `names` in words. Those that are off are left out."""
    return [VARIED[name](settings[name]) for name in names if name not in OFF or settings[name] != OFF[name]]


def folder_name(identity: dict) -> str:
    """The name of a run's folder inside the folder of a sweep, without the seed: lr-3e-4-linear-leash-2."""
    return "lr-" + f"{lr_label(identity['lr'])} {' '.join(lever_words(OFF | identity))}".strip().replace(" ", "-")


def named_runs(folder: Path) -> list[Path]:
    """The folders of runs, finished or not, in `folder` that are named as a sweep names them: a copy is no run of it,
    nor is a link of another name."""
    found = []
    for path in sorted(folder.glob("lr-[0-9]*")):
        identity = read_json(path / RESULT_FILE).get("identity") or read_json(path / IDENTITY_FILE)
        if "lr" in identity and path.name.removesuffix(f"-seed{identity.get('seed')}") == folder_name(identity):
            found.append(path)
    return found


class Run:
    """A finished run: its result, its name and its lever among others, and the numbers that tables and figures need."""

    def __init__(self, result: Result, label: str, folder: Path | None = None, lever: str = ""):
        self.result, self.label, self.folder, self.lever = result, label, folder, lever
        self.lr, self.seed = result["lr"], result["seed"]
        self.name = run_label(self.lr, self.seed, False, lever)  # the same for all seeds
        self.before, self.after = result["before"], result["after"]
        self.best_step, self.points = result["best_step"], result["checkpoints"]
        self.train_loss, self.held_out = result["train_loss"], self.path("sample", "held_out_loss")
        self.minutes = sum(result["environment"]["seconds"].values()) / 60
        settings = result["settings"]
        # Those that differ from how the texts were drawn, in words.
        drawn = settings["top_k"] if settings["temperature"] == 1 else None
        self.expected = {name: f"expected {words}" for name, (top_k, words) in EXPECTED.items() if top_k != drawn}
        self.wrapped = result["shown"].get("wrapped", True)  # results of older versions do not say it
        self.book_ratio = result["book"].get("ratio", result["in_sample_ratio"])

    @property
    def last_loss(self) -> float:
        return last_tenth(self.train_loss)

    @property
    def end(self) -> float:
        """The held-out loss after the last step, in nats per token; infinite if the run diverged."""
        return self.held_out[-1][1] if self.after else math.inf

    @property
    def stopped_in_time(self) -> EvalPoint:
        """The point at which the loss on the first half of the held-out text was lowest."""
        return best_point(self.points)

    @property
    def lowest_held_out(self) -> tuple[int, float]:
        """(step, nats per token) of `stopped_in_time`, on the whole held-out text."""
        return self.stopped_in_time["sample"], self.stopped_in_time["held_out_loss"]

    def readings(self, steps: float) -> float:
        """How often each training token is read in `steps` steps, on average."""
        result, read = self.result, steps * self.result["settings"]["batch_size"] * self.result["settings"]["seq_len"]
        return read / (result["book_tokens"] - result["held_out_tokens"])

    def path(self, *names: str) -> list[tuple[float, ...]]:
        """The figures called `names` at every point of the training where all were measured."""
        return [tuple(point[n] for n in names) for point in self.points if point.keys() >= set(names)]


def last_tenth(losses: list[float]) -> float:
    """Mean training loss over the last tenth of the steps, in nats: one batch alone says little."""
    return float(np.mean(losses[-max(1, len(losses) // 10) :]))


def best_point(points: list[EvalPoint]) -> EvalPoint | None:
    """The point with the lowest loss on the first half of the held-out text, or None. What chooses must not report: the
    lowest of twenty numbers is too low by its own noise. The second half had no part in the choice."""
    return min((p for p in points if "held_out_windows" in p), key=lambda p: halves(p)[0], default=None)


def halves(point: EvalPoint) -> tuple[float, float]:
    """The loss on the half of the held-out text that chooses and on the one that reports, in nats per token."""
    return tuple(float(np.mean(windows)) for windows in point["held_out_windows"])


def loss_change(first: EvalPoint | Evaluation, second: EvalPoint | Evaluation, half: int = 0) -> Interval | None:
    """95 % interval of the change of the held-out loss from one measurement to another, over the windows from `half`
    on: 1 leaves out those that choose. All models read the same windows, and what they have in common cancels."""
    pairs = zip(*(measured.get("held_out_windows", [])[half:] for measured in (first, second)))
    return t_interval([b - a for one, other in pairs for a, b in zip(one, other)])


def runs_of(results: list[Result], folders: list[Path | None] | None = None) -> list[Run]:
    """The runs with their labels, sorted by lever (none first), then from the largest rate down, then by seed."""
    several, differ, runs = len({result["seed"] for result in results}) > 1, settings_that_differ(results), []
    for result, folder in zip(results, folders or [None] * len(results)):
        lever = " ".join(lever_words(result["settings"], [name for name in VARIED if name in differ]))
        runs.append(Run(result, run_label(result["lr"], result["seed"], several, lever), folder, lever))
    # By its length first: "batch 4" comes before "batch 16".
    return sorted(runs, key=lambda run: (len(run.lever), run.lever, -run.lr, run.seed))


def find_runs(paths: Iterable[str | Path]) -> list[Run]:
    """The runs in run folders and sweep folders (which hold run folders).

    They can share a table: of one model and text, alike but for learning rate, VARIED and seed, each once.
    """
    folders = run_folders(paths)
    runs = runs_of(list(map(read_result, folders)), folders)
    settings = [run.result["settings"] for run in runs]
    # By their content: it may lie in two places.
    models = {s["model_identity"]["sha256"]: s["model_name"] for s in settings}
    texts = {s["text_sha256"] + ", as served" * s["raw_text"]: s["text_name"] for s in settings}
    general = {str(run.result["identity"].get("general_text_sha256")): "general text" for run in runs}
    for what, names in (("models", models), ("texts", texts), ("general texts", general)):
        if len(names) > 1:
            said = ", ".join(sorted(f"{name}, sha256 {sha[:8]}{sha[64:]}" for sha, name in names.items()))
            raise ValueError(f"the runs are of different {what} ({said}); compare runs of one")
    if more := [name for name in settings_that_differ(run.result for run in runs) if name not in VARIED]:
        raise ValueError(
            f"the runs differ in more than learning rate, levers and seed: {', '.join(more)}; compare others"
        )
    for run, following in zip(runs, runs[1:]):
        if run.label == following.label:
            raise ValueError(
                f"{following.folder} is a second run at {run.name} with seed {run.seed}; "
                "name runs that differ in learning rate, a lever or seed"
            )
    return runs


def settings_that_differ(results: Iterable[Result]) -> list[str]:
    """Names of the settings, without learning rate and seed, that are not the same in all runs."""
    found = [result["settings"] for result in results]
    # Of texts and model only the content counts; notes, places and machines change no number, patience only ends a run.
    left_out = ["lr", "seed", "device", "dtype", "micro_batch", "patience", "model", "model_name", "model_identity"]
    left_out += ["text", "text_name", "text_notes", "general_text"]
    return [name for name in found[0] if name not in left_out and len({str(s.get(name)) for s in found}) > 1]


def several_levers(runs: list[Run]) -> bool:
    """Whether a learning rate was run with two levers or more. A search gives each rate its own number of steps."""
    return len({run.name for run in runs}) > len({run.lr for run in runs})


def describe(runs: list[Run]) -> str:
    """Say in one line what all runs have in common: model, text, size and levers. It stands under every figure."""
    result, seeds = runs[0].result, sorted({run.seed for run in runs})
    settings = result["settings"]
    seed = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
    raw = ", as served" if settings["raw_text"] else ""
    parameters = settings["model_identity"]["parameters"] / 1e6
    differ = settings_that_differ(run.result for run in runs)
    steps = "steps" if "samples" in differ else f"{result['samples']} steps"
    windows = "windows of" if "batch_size" in differ else f"{settings['batch_size']} x"
    levers = lever_words(settings, [name for name in OFF if name not in differ])
    unlike = [name for name in ("device", "dtype") if len({run.result["settings"].get(name) for run in runs}) > 1]
    unlike = [f"not all on the same {name}" for name in unlike]
    levers = [word + " schedule" * (word == settings["schedule"]) for word in levers]
    return (
        f"{settings['model_name']} ({parameters:.3g} million parameters) on {settings['text_name']}{raw}; "
        f"{steps} of {windows} {settings['seq_len']} tokens, {', '.join([*levers, seed, *unlike])}"
    )


def copied_texts(measured: Evaluation) -> tuple[int, int]:
    """How many texts have a copied run, and how many there are."""
    return int(np.count_nonzero(measured["copied_shares"])), len(measured["copied_shares"])
