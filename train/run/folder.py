"""The folders of runs and sweeps: which run is in one, whether it may continue there, and whether there is room."""

import contextlib
import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from data.flags import filled
from data.settings import RATINGS_FILE, REPORT_FILE, Settings, Training
from evaluate.baseline import Baseline
from evaluate.results import BEST_FOLDER, RESULT_FILE, TABLE_FILE, TITLES, VARIED, lever_words, read_result, run_label
from model.gpt2 import attention
from model.hub import MODEL_FILES
from model.pretrained import parameter_count
from model.speed.empty import empty_model
from train.levers import trained_parameters
from train.run.best import drop_best
from train.run.card import CARD_FILE
from train.run.checkpoint import CHECKPOINT_FILE, load_checkpoint
from train.run.lock import LOCK_FILE, holder, locked

IDENTITY_FILE = "run.json"  # what an unfinished run is; a finished one has it in its result
ANEW = "name another --out, or start anew with --overwrite"
RUN_FILES = (RESULT_FILE, *MODEL_FILES, IDENTITY_FILE, CHECKPOINT_FILE, LOCK_FILE)
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
    def folder_name(self) -> str:
        return f"lr-{self.name}".replace(" ", "-")

    @property
    def finished(self) -> bool:
        """Whether its result is there. The result of a run of fewer steps does not count: that run can go on."""
        done = identity_in(self.folder) if (self.folder / RESULT_FILE).is_file() else None
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
    del found["seed"]
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
        plain, seeded = folder / job.folder_name, folder / f"{job.folder_name}-seed{seed}"
        names = (seeded, plain) if several_seeds else (plain, seeded)
        # A sweep of another number of seeds may have done it already, under the other name.
        there = [name for name in names if not overwrite and (identity_in(name) or {}).get("seed") == seed]
        jobs.append(dataclasses.replace(job, folder=(there or names)[0]))
    return jobs


def identity_in(folder: Path) -> dict | None:
    """What the run in `folder` is, finished or not; None if there is none."""
    if (folder / RESULT_FILE).is_file():
        return read_result(folder)["identity"]
    file = folder / IDENTITY_FILE
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}); start anew with --overwrite") from None


def refuse_changes(place: Path, wanted: dict, found: dict, advice: str = ANEW, goes_on: bool = False) -> None:
    """Refuse the settings `wanted` if those `found` in `place` differ, and name the differences.

    Args:
        goes_on: it may be a run of fewer steps, which then is measured by fewer texts too.
    """
    names = [name for name in wanted | found if wanted.get(name) != found.get(name)]
    if goes_on and wanted["schedule"] == "constant" and found.get("samples", 0) < wanted["samples"]:
        names = [name for name in names if name not in ("samples", "eval_sequences")]
    if names:
        changes = ", ".join(f"{name} was {found.get(name)}, is {wanted.get(name)}" for name in names)
        raise ValueError(f"{place} holds a run that differs: {changes}; repeat its settings, {advice}")


def new_folder(folder: Path, overwrite: bool = False, keep: Path | None = None, sweep: bool = False) -> Path:
    """Make `folder`, and check that it can be written to and holds nothing but what our runs left.

    Args:
        overwrite: first delete what earlier runs left in it, and nothing else.
        keep: the model that is to be trained; a folder that holds it is never touched.
        sweep: the folder is for several runs, each in a folder of its own, not for one.
    """
    try:
        if overwrite and folder.is_dir():
            used = (folder, *folder.glob("lr-*"))
            models = [path.resolve() for path in (*used, *(path / BEST_FOLDER for path in used))]
            if keep is not None and keep.resolve() in models:
                raise ValueError(f"--overwrite would delete the model {keep} itself; name another --out")
            for run_folder in (path for path in used if path != folder or is_of_a_run(path)):
                empty_folder(run_folder)
                if run_folder != folder and not any(run_folder.iterdir()):
                    run_folder.rmdir()
        foreign = sorted(path.name for path in folder.glob("*") if not is_of_a_run(folder) or is_foreign(path, sweep))
        if foreign:
            raise ValueError(
                f"{folder} is already in use ({foreign[0]}); name another --out, or start anew with --overwrite"
            )
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".tmp-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"cannot write to {folder} ({error.strerror}); name another --out") from None
    return folder


def empty_folder(run_folder: Path) -> None:
    """Delete what a run or a sweep has left in it, unless another process is using it."""
    with locked(run_folder) as ours:
        if not ours:
            raise ValueError(
                f"another process is using {run_folder} ({holder(run_folder)}); stop it first, or name another --out"
            )
        tidy(run_folder)
        if has_run(run_folder):
            (run_folder / CARD_FILE).unlink(missing_ok=True)
        if has_run(run_folder) or any(run_folder.glob("lr-*")):  # best/ of a run, or of a search
            drop_best(run_folder / BEST_FOLDER)
        for name in (*RUN_FILES, *SWEEP_FILES):
            if name != LOCK_FILE:
                (run_folder / name).unlink(missing_ok=True)


def tidy(run_folder: Path) -> None:
    """Delete the temporary files that a killed process has left."""
    for pattern in (".tmp*", f"{BEST_FOLDER}/.tmp*"):  # our own, and safetensors', which are .tmp and six letters
        for path in run_folder.glob(pattern):
            path.unlink(missing_ok=True)


def has_run(folder: Path) -> bool:
    """Whether a run, finished or not, is in `folder`. Only then are README.md and best/ there its own."""
    return any((folder / name).is_file() for name in (RESULT_FILE, IDENTITY_FILE))


def is_of_a_run(folder: Path) -> bool:
    """Whether a run or a sweep has made `folder`: a model from elsewhere has no result beside it."""
    return has_run(folder) or not any((folder / name).exists() for name in MODEL_FILES)


def is_foreign(path: Path, sweep: bool) -> bool:
    """Whether `path` does not belong into the folder of a run or a sweep; both may hold table, figures and ratings."""
    if path.name == BEST_FOLDER and sweep:
        return not any(path.parent.glob("lr-*"))
    if path.name in (CARD_FILE, BEST_FOLDER) and not sweep:
        return not has_run(path.parent)
    ours = (*SWEEP_FILES, RATINGS_FILE, *([LOCK_FILE, BEST_FOLDER] if sweep else RUN_FILES))
    return not (path.name in ours or path.name.startswith(".tmp") or (sweep and path.match("lr-*") and path.is_dir()))


def check_job(job: Job) -> None:
    """Refuse a job whose folder holds another run, a damaged checkpoint, or something else."""
    if not job.folder.is_dir():
        return
    new_folder(job.folder)
    found = identity_in(job.folder)
    if found is not None:
        refuse_changes(job.folder, job.identity, found, goes_on=True)
    if (job.folder / CHECKPOINT_FILE).is_file():
        _, info = load_checkpoint(job.folder / CHECKPOINT_FILE)  # damage is found before the base model is evaluated
        refuse_changes(job.folder, job.identity, info["identity"], goes_on=True)
    elif (job.folder / RESULT_FILE).is_file() and not job.finished and not read_result(job.folder)["diverged"]:
        raise ValueError(
            f"{job.folder} ended with {found['samples']} steps, and without --keep-state, so it cannot go on; {ANEW}"
        )


def check_neighbours(folder: Path, common: dict, jobs: list[Job]) -> None:
    """Refuse a sweep whose folder holds other runs than its `jobs` that do not belong in one table with them."""
    for path in sorted({*folder.glob("lr-*")} - {job.folder for job in jobs}):
        found = identity_in(path)
        if found is not None:
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
