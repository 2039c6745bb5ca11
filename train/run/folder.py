"""The folders of runs and sweeps: which run is in one, whether it may continue there, and whether there is room."""

import contextlib
import dataclasses
import math
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from data.files import tidy
from data.flags import filled
from data.settings import REPORT_FILE, Settings, Training
from evaluate.baseline import Baseline
from evaluate.results import (
    BEST_FOLDER,
    IDENTITY_FILE,
    RESULT_FILE,
    TABLE_FILE,
    TITLES,
    VARIED,
    folder_name,
    is_ours,
    lever_words,
    named_runs,
    read_json,
    read_result,
    run_label,
    write_json,
)
from model.gpt2 import attention
from model.hub import MODEL_FILES
from model.pretrained import parameter_count
from model.speed.empty import empty_model
from train.levers import trained_parameters
from train.parallel import wait
from train.run.best import drop_best
from train.run.card import CARD_FILE, drop_card, is_card
from train.run.checkpoint import CHECKPOINT_FILE, load_checkpoint
from train.run.lock import holder, locked

ANEW = "name another --out, or start anew with --overwrite"
RUN_FILES = (CHECKPOINT_FILE, *MODEL_FILES, IDENTITY_FILE, RESULT_FILE)  # deleted in this order: is_run needs the last
SWEEP_FILES = (TABLE_FILE, REPORT_FILE, *TITLES)


@dataclass(frozen=True)
class Job:
    """One run: what it is, and where its outcome goes."""

    lr: float
    seed: int  # of batches and dropout
    folder: Path
    identity: dict  # everything that changes its numbers
    several_seeds: bool = False  # its learning rate is run with others too

    @property
    def training(self) -> Training:
        return filled(Training, self.identity)

    @property
    def name(self) -> str:
        """Its learning rate and levers: 3e-4 linear leash 2."""
        return run_label(self.lr, self.seed, False, " ".join(lever_words(self.identity)))

    @property
    def label(self) -> str:
        return self.name + (f", seed {self.seed}" if self.several_seeds else "")

    @property
    def finished(self) -> bool:
        """Whether its result is there. The result of a run of fewer steps does not count: that run can go on. The
        result of another run is an error."""
        done = read_result(self.folder)["identity"] if is_ours(self.folder / RESULT_FILE) else None
        if done is not None:
            refuse_changes(self.folder, self.identity, done, goes_on=True)
        return done is not None and done["samples"] >= self.identity["samples"]


def named_settings(settings: Settings) -> dict:
    """What a run was asked to do, by the names of the flags; without its learning rate."""
    sampling = settings.sampling
    asked = {name: getattr(settings, name) for name in ("model", "text", "raw_text", "general_text")}
    writing = {
        "eval_sequences": sampling.sequences,
        "eval_tokens": sampling.new_tokens,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
    }
    return asked | dataclasses.asdict(settings.training) | writing


def common_identity(baseline: Baseline) -> dict:
    """What changes the numbers of a run, apart from its learning rate and seed: flat, and as JSON has it."""
    found = named_settings(baseline.settings) | {
        "model_sha256": baseline.model_identity["sha256"],
        "text_sha256": baseline.book.sha256,
        "general_text_sha256": baseline.general_sha256,
        "dtype": baseline.machine.dtype_name,
        "sampling_seed": baseline.sampling.seed,
    }
    for name in ("seed", "model", "text", "general_text"):  # these are known by their content, wherever it lies
        del found[name]
    return found


def jobs_of(
    folder: Path, common: dict, grid: list[tuple[float, int, dict]], several_seeds: bool, overwrite: bool
) -> list[Job]:
    """A job for each (lr, seed, levers) of `grid` in the sweep folder `folder`.

    Args:
        several_seeds: the names of the run folders contain the seed.
        overwrite: what is in the folders now does not matter.
    """
    jobs = []
    for lr, seed, levers in grid:
        job = Job(lr, seed, folder, common | levers | {"lr": lr, "seed": seed}, several_seeds)
        name = folder_name(job.identity)
        plain, seeded = folder / name, folder / f"{name}-seed{seed}"
        names = (seeded, plain) if several_seeds else (plain, seeded)
        # A sweep of another number of seeds may have done it already, under the other name.
        there = [name for name in names if not overwrite and (identity_in(name) or {}).get("seed") == seed]
        jobs.append(dataclasses.replace(job, folder=(there or names)[0]))
    return jobs


def identity_in(folder: Path) -> dict | None:
    """What the run in `folder` is, finished or not; None if there is none."""
    if is_ours(folder / RESULT_FILE):
        return read_result(folder)["identity"]
    return read_json(folder / IDENTITY_FILE) or None


def refuse_changes(place: Path, wanted: dict, found: dict, advice: str = ANEW, goes_on: bool = False) -> None:
    """Refuse the settings `wanted` if those `found` in `place` differ, and name the differences. What only `found` has
    is of an older version, which kept more.

    Args:
        goes_on: it may be a run of fewer steps, which then is measured by fewer texts too.
    """
    names = [name for name in wanted if wanted[name] != found.get(name)]
    if goes_on and wanted["schedule"] == "constant" and found.get("samples", 0) < wanted["samples"]:
        names = [name for name in names if name not in ("samples", "eval_sequences")]
    if names:
        changes = ", ".join(f"{name} was {found.get(name)}, is {wanted[name]}" for name in names)
        raise ValueError(f"{place} holds a run that differs: {changes}; repeat its settings, {advice}")


def take_folder(
    folder: Path, jobs: list[Job], overwrite: bool, keep: Path, sweep: bool = True, common: dict | None = None
) -> None:
    """Check `folder` and the folders of `jobs`; only then delete old runs and write down what the new ones are.

    All this under a lock: of two commands that are started at once, the second one sees the runs of the first.

    Args:
        overwrite: delete the runs that are there.
        keep: the model that is to be trained, which is never deleted.
        sweep: the jobs' folders are in `folder`, whose other runs must share `common`.
    """
    with contextlib.ExitStack() as stack:
        for polls in count():
            try:
                ours = stack.enter_context(locked(folder))
            except OSError as error:
                raise ValueError(f"cannot write to {folder} ({error.strerror}); name another --out") from None
            if ours or overwrite or is_run(folder):  # or the run itself is being done
                break
            wait(polls, f"{folder} ({holder(folder)})")
        if overwrite and not ours:
            raise ValueError(in_use(folder))
        old = runs_in(folder, keep) if overwrite else []
        for job in jobs:
            if job.folder not in old:
                check_job(job, overwrite)
        if sweep and folder not in old:
            check_folder(folder, SWEEP_FILES, sweep)
        if common:
            check_neighbours(folder, common, [*old, *(job.folder for job in jobs)])
        delete_runs(folder, old)
        for job in jobs:
            if ours and not job.finished:
                job.folder.mkdir(exist_ok=True)
                write_json(job.folder / IDENTITY_FILE, job.identity)


def tidy_run(folder: Path) -> None:
    """Delete the half-written files of a killed process in the folder of a run and in its best/."""
    for place in (folder, folder / BEST_FOLDER):
        if place == folder or not place.is_symlink():
            tidy(place, (*RUN_FILES, CARD_FILE))


def in_use(folder: Path) -> str:
    return f"another process is using {folder} ({holder(folder)}); stop it first, or name another --out"


def is_run(folder: Path) -> bool:
    """Whether a run of ours, finished or not, is in `folder`."""
    return is_ours(folder / RESULT_FILE, "identity") or is_ours(folder / IDENTITY_FILE, "model_sha256")


def check_folder(folder: Path, names: Iterable[str], sweep: bool = False) -> None:
    """Refuse a `folder` that has one of the files `names` without a run of ours: they are somebody's. A run and a sweep
    do not share a folder. Other files are no reason for anything."""
    run, runs = is_run(folder), named_runs(folder)
    if run if sweep else runs:
        raise ValueError(f"{folder} is already in use by {'a run' if sweep else 'several runs'}; name another --out")
    there = [name for name in names if os.path.lexists(folder / name)]
    if there and not (run or runs):
        raise ValueError(f"{folder} is already in use ({there[0]}), and not by a run; name another --out")


def runs_in(folder: Path, keep: Path) -> list[Path]:
    """The folders whose runs `--overwrite` deletes: `folder` and the runs in it. A link is none of them. Refuses to
    delete the model `keep`, which is to be trained."""
    used = [*(path for path in named_runs(folder) if not path.is_symlink()), *[folder] * is_run(folder)]
    if keep.resolve() in [path.resolve() for each in (folder, *used) for path in (each, each / BEST_FOLDER)]:
        raise ValueError(f"--overwrite would delete the model {keep} itself; name another --out")
    return used


def delete_runs(folder: Path, used: list[Path]) -> None:
    """Delete the files that the runs in the folders `used` wrote, and those about all of them in `folder`, and nothing
    else. Nothing is deleted while another process uses one of them. `folder` is locked already."""
    with contextlib.ExitStack() as stack:
        for path in used:
            if path != folder and not stack.enter_context(locked(path)):
                raise ValueError(in_use(path))
        for path in used:
            tidy_run(path)
            drop_best(path / BEST_FOLDER)
            drop_card(path)
            for name in RUN_FILES:
                (path / name).unlink(missing_ok=True)
        if used:
            tidy(folder, SWEEP_FILES)
            for name in SWEEP_FILES:
                (folder / name).unlink(missing_ok=True)
            if is_card(folder / BEST_FOLDER / CARD_FILE):  # of a search
                drop_best(folder / BEST_FOLDER)
    for path in used:
        with contextlib.suppress(OSError):  # something else is in it
            if path != folder:
                path.rmdir()


def check_job(job: Job, anew: bool = False, again: bool = False) -> None:
    """Refuse a job whose folder is a link or holds another run, a damaged checkpoint, or a model that is no run's.

    Args:
        anew: a result that is there does not count.
        again: the checkpoint has been read before; it may have gigabytes.
    """
    if job.folder.is_symlink() and (anew or not job.finished):
        raise ValueError(
            f"{job.folder} is a link, and nothing is written through one; delete it, or name another --out"
        )
    check_folder(job.folder, (*RUN_FILES, BEST_FOLDER))
    found = identity_in(job.folder)
    if found is not None:
        refuse_changes(job.folder, job.identity, found, goes_on=True)
    if (job.folder / CHECKPOINT_FILE).is_file():
        if again:
            return
        _, info = load_checkpoint(job.folder / CHECKPOINT_FILE)  # damage is found before the base model is evaluated
        refuse_changes(job.folder, job.identity, info["identity"], goes_on=True)
    elif (job.folder / RESULT_FILE).is_file() and not job.finished and not read_result(job.folder)["diverged"]:
        raise ValueError(
            f"{job.folder} ended with {found['samples']} steps, and without --keep-state, so it cannot go on; {ANEW}"
        )


def check_neighbours(folder: Path, common: dict, left_out: list[Path]) -> None:
    """Refuse a sweep whose folder holds runs, apart from `left_out`, that do not belong in one table with its own."""
    for path in named_runs(folder):
        if path not in left_out:
            found = identity_in(path)
            own = {name: found.get(name) for name in ("lr", "seed", "patience", *VARIED)}
            refuse_changes(path, common | own, found)


def checkpoint_bytes(baseline: Baseline, jobs: list[Job]) -> list[int]:
    """Size of each job's checkpoint: the weights that are trained and two moments, 4 bytes each. A ValueError if the
    model lacks the part that a job trains."""
    model, parts = empty_model(baseline.config, attention), {job.identity["train"] for job in jobs}
    sizes = {part: 3 * 4 * sum(p.numel() for p in trained_parameters(model, part)) for part in parts}
    return [sizes[job.identity["train"]] for job in jobs]


def check_room(folder: Path, baseline: Baseline, jobs: list[Job], at_once: int) -> None:
    """Refuse `jobs`, of which `at_once` run at the same time, if the disk of `folder` is too small for them."""
    sizes, settings = sorted(checkpoint_bytes(baseline, jobs)), baseline.settings
    models = settings.save_model * (1 + settings.keep_best) * len(jobs) * 4 * parameter_count(baseline.config)
    # A checkpoint that replaces another needs room for both.
    needed = 2 * sum(sizes[-at_once:]) + models + settings.keep_state * sum(sizes)
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = math.inf
    with contextlib.suppress(OSError):  # some network disks do not say it
        free = shutil.disk_usage(there).free
    for job in jobs:  # what the same runs left there will be replaced
        with contextlib.suppress(OSError):
            free += (job.folder / CHECKPOINT_FILE).stat().st_size
    if free < needed:
        raise ValueError(
            f"the disk of {folder} has {free / 1e9:.1f} GB free, checkpoints and models need {needed / 1e9:.1f} GB; "
            "make room, use --no-save-model, or name another --out"
        )


def default_folder(baseline: Baseline) -> Path:
    """The folder of runs with these settings without --out."""
    training, book = baseline.settings.training, baseline.book
    parts = [baseline.name, book.name + ("-raw" if book.raw else ""), str(training.samples)]
    return Path("runs") / "-".join(parts + ([f"seed{training.seed}"] if training.seed else []))
