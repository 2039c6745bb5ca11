"""Run folders and what is in them."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np

from data.files import write_whole
from evaluate.ratio import bootstrap_interval

RESULT_FILE = "result.json"

Interval = tuple[float, float]  # 95 %, low and high


class Evaluation(TypedDict):
    """What was measured of a model; every share is from 0 to 1. evaluate/measures says how."""

    ratio: float  # share of the written tokens that are among the book's 100 most frequent
    ratio_ci: Interval
    shares: list[float]  # the same, text by text
    expected_ratio: float  # the probability that the sampler gave those tokens, mean over the steps
    expected_ratio_ci: Interval
    untruncated_ratio: float  # the same of the model's own probabilities: temperature 1, no top-k
    untruncated_ratio_ci: Interval
    untruncated_shares: list[float]  # the same, text by text
    texts: list[str]  # the first of them, start token included
    letters_ratio: float  # the ratio among tokens of letters
    letters_ratio_ci: Interval
    divergence: float  # Jensen-Shannon, from the text that is trained on, bits; less the bias of the texts' number
    divergence_ci: Interval
    copied: float  # share of the written tokens in copied runs
    copied_ci: Interval
    longest_copy: dict  # tokens; passage; position in the text, in tokens
    novelty: list[float]  # share of new n-grams, n = 1 to 10
    distinct: list[float]  # different n-grams as a share of all, n = 1 to 3, over `distinct_texts` texts
    distinct_texts: int
    repeated: float  # share of 4-grams that came before in the same text
    base_perplexity: float  # of the written texts, under the base model
    extraction: dict  # training, held_out: share of the text's own tokens, or None; each with its _ci
    held_out: dict | None  # loss (nats per token); perplexity, None where it is beyond all floats
    forgetting: dict  # base_texts, general: kl, loss_increase (nats per token), each with its _ci
    weight_change: dict[str, float]  # part of the model: length of the change as a share of its length
    continuations: list[dict]  # of each prompt: pieces, frequent (bool for each piece), copies
    seconds: float


class Checkpoint(TypedDict):
    """What was measured of a model on its way."""

    sample: int  # trained on so many
    held_out_loss: NotRequired[float]  # nats per token
    kl: NotRequired[float]  # from the base model on its own texts, nats per token
    copied: NotRequired[float]  # share
    continuations: NotRequired[list[dict]]  # of the first prompts


class Result(TypedDict):
    """A finished run, as `result.json` has it."""

    lr: float
    samples: int  # asked for
    seed: int  # of batches and dropout
    train_loss: list[float]  # of each sample before its step, nats per token
    held_out_loss: list[tuple[int, float]]  # sample, nats per token; empty where nothing was held out
    checkpoints: list[Checkpoint]
    diverged: dict | None  # sample, what ("loss" or "gradient"), lr, dtype, device
    before: Evaluation  # of the base model
    after: Evaluation | None  # None: diverged
    book: dict  # those of the same measures that a text has by itself, of the held-out text
    prompts: list[str]  # pieces of the book whose `continuations` are shown side by side
    shown: dict  # temperature and top_k of the continuations
    least_copy: int  # tokens from which on a run that stands in the training text counts as copied
    book_ratio: float  # share of the book's own tokens among its 100 most frequent
    book_tokens: int
    held_out_tokens: int
    held_out_on_the_way: NotRequired[int]  # of these the first so many are what `held_out_loss` is of
    settings: dict  # by the names of the flags; with model and text as they were found
    identity: dict  # what tells this run from others; see train/lasting/folder.py
    environment: dict  # versions, machine, and `seconds`: before, training, checkpoints (measuring on the way), after


def lr_label(lr: float) -> str:
    """A learning rate as people write it: 1e-4, 2.5e-5."""
    return np.format_float_scientific(lr, trim="-", exp_digits=1).replace("e+", "e")


def write_json(file: Path, content: dict) -> None:
    """Write `content` to `file`, as a whole or not at all."""
    # allow_nan=False: NaN is not JSON, and no other program could read the file.
    text = json.dumps(content, indent=1, allow_nan=False)
    write_whole(file, lambda part: part.write_text(text, encoding="utf-8"))


def digest(result: Result) -> str:
    """SHA-256 of all that a result says, in hexadecimal."""
    return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()


def write_result(folder: Path, result: Result) -> None:
    """Write `result.json`, with its digest: one that was changed by hand since would break its readers far from here."""
    write_json(folder / RESULT_FILE, result | {"sha256": digest(result)})


def read_result(folder: Path) -> Result:
    """The result of a finished run.

    Raises:
        ValueError: the file is not as a run has written it.
    """
    file = folder / RESULT_FILE
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        if result.pop("sha256", None) != digest(result):
            raise ValueError("its content is not what its sha256 was made of")
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error}); delete it and run again") from None
    if missing := Result.__required_keys__ - result.keys():
        raise ValueError(f"{file} is not the result of a run: {', '.join(sorted(missing))} missing")
    return result


def run_folders(paths: Iterable[str | Path]) -> list[Path]:
    """The run folders among `paths` and right below them, each once.

    Raises:
        FileNotFoundError: a path is no folder, or no result is in or right below it.
    """
    found = []
    for path in map(Path, paths):
        folders = [path] if (path / RESULT_FILE).is_file() else sorted(f.parent for f in path.glob(f"*/{RESULT_FILE}"))
        if not folders:
            raise FileNotFoundError(f"no {RESULT_FILE} in {path} or right below it; name a run or sweep folder")
        found += folders
    return list({folder.resolve(): folder for folder in found}.values())


def find_results(paths: Iterable[str | Path]) -> list[Result]:
    """The results in run folders and sweep folders (which hold run folders).

    The largest learning rate comes first, and of one learning rate the lowest seed.

    Raises:
        FileNotFoundError: see `run_folders`.
        ValueError: a result is damaged, or they are of different models or texts and cannot share a figure.
    """
    results = list(map(read_result, run_folders(paths)))
    models = {settings["model"]: settings["model"] for settings in (result["settings"] for result in results)}
    texts = {text_identity(result): text_label(result) for result in results}
    for what, found in (("model", models), ("text", texts)):
        if len(found) > 1:
            raise ValueError(
                f"the runs are of different {what}s ({', '.join(sorted(found.values()))}); they do not belong in one figure"
            )
    return sorted(results, key=lambda result: (-result["lr"], result["seed"]))


def text_identity(result: Result) -> tuple[str, bool]:
    """What tells a run's text from others: not its path, but its content, and whether that was kept as served."""
    return result["settings"]["text_sha256"], result["settings"]["raw_text"]


def text_label(result: Result) -> str:
    sha256, raw = text_identity(result)
    return f"{result['settings']['text_name']}, sha256 {sha256[:8]}{', as served' if raw else ''}"


def part_measured(result: Result) -> str:
    """A sentence where the held-out loss during training is that of a part; "" where it is that of all."""
    whole = result["held_out_tokens"]
    if (part := result.get("held_out_on_the_way", whole)) == whole:
        return ""
    return (
        f"From sample to sample the held-out loss is that of the first {part:,} of {whole:,} tokens; what is said to be "
        "before and after is that of all."
    )


def label_of(lr: float, seed: int, several_seeds: bool) -> str:
    """A run by its learning rate, and by its seed where there are several."""
    return lr_label(lr) + (f", seed {seed}" if several_seeds else "")


def run_label(result: Result, results: list[Result]) -> str:
    """`label_of` one of `results`."""
    return label_of(result["lr"], result["seed"], len({other["seed"] for other in results}) > 1)


def final_loss(result: Result) -> float:
    """Mean training loss over the last tenth of the samples, in nats: one batch alone says little."""
    losses = result["train_loss"]
    return float(np.mean(losses[-max(1, len(losses) // 10) :]))


def lowest_held_out(result: Result) -> tuple[int, float]:
    """(sample, nats per token) where the held-out loss of a run that has one was lowest, the first of equals."""
    return min(result["held_out_loss"], key=lambda pair: pair[1])


def path(result: Result, *names: str) -> list[tuple[float, ...]]:
    """The figures called `names` at every checkpoint of a run that has them all."""
    return [tuple(c[name] for name in names) for c in result["checkpoints"] if c.keys() >= set(names)]


def least_copy(results: list[Result]) -> int:
    """From how many tokens on a run counts as copied; where the runs differ, the largest."""
    return max(result["least_copy"] for result in results)


def minutes(result: Result) -> float:
    """That a run took, its part of the evaluation before it included."""
    return sum(result["environment"]["seconds"].values()) / 60


def describe(results: list[Result]) -> str:
    """Model, text and size of the runs in one line, for captions: no figure shall be taken for another's."""
    result, seeds = results[0], sorted({result["seed"] for result in results})
    settings = result["settings"]
    seed = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
    raw = ", as served" if settings["raw_text"] else ""
    parameters = settings["model_identity"]["parameters"] / 1e6
    return (
        f"{settings['model_name']} ({parameters:.3g} million parameters) on {settings['text_name']}{raw}; "
        f"{result['samples']} samples of {settings['batch_size']} x {settings['seq_len']} tokens, {seed}"
    )


def own_terms(result: Result) -> bool:
    """Whether the ratio's texts are drawn from the model's own probabilities: only then can it be held against the
    book's. With a top-k the tail is never drawn, and who has learned the book perfectly exceeds it."""
    return result["settings"]["top_k"] == 0 and result["settings"]["temperature"] == 1


def own_terms_label(result: Result) -> str:
    """What it takes to hold the ratio of a run against the book's: "without top-k"; "" where it was drawn so."""
    if own_terms(result):
        return ""
    return "without top-k" if result["settings"]["top_k"] else "at temperature 1"


def paired_difference(first: Evaluation, second: Evaluation, key: str = "shares") -> tuple[float, Interval]:
    """Mean of second - first over the sequences, with its 95 % interval.

    Sequence i of both began with the same token and the same luck: what the two have in common
    cancels, and the interval is that of the difference itself.
    """
    difference = np.array(second[key]) - np.array(first[key])
    return float(difference.mean()), bootstrap_interval(difference)
