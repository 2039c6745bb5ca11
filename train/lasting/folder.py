"""The folders of runs and sweeps: which run is in one, whether it may go on there, and whether there is room."""

import contextlib
import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

<<<<<<< HEAD
from data.settings import RATINGS_FILE, REPORT_FILE, Settings
from evaluate.baseline import Baseline
from evaluate.results import RESULT_FILE, TABLE_FILE, TITLES, lr_label, read_result, run_label
from evaluate.setup import parameter_count
=======
from data.settings import RATINGS_FILE, REPORT_FILE, Sampling, Training
from evaluate.report.titles import FIGURE_FILES
from evaluate.results import RESULT_FILE, label_of, lr_label, read_result
from evaluate.setup import Setup
from evaluate.table import TABLE_FILE
from model.device import Machine
>>>>>>> 8be1d4c2320fe21a0eb8e4f1373bc41e6a97e950
from model.hub import MODEL_FILES
from model.pretrained import parameter_count
from train.lasting.card import CARD_FILE
from train.lasting.claim import LOCK_FILE, claimed, holder
from train.lasting.keeper import STATE_FILE
from train.lasting.state import differences, load_state

IDENTITY_FILE = "run.json"  # what an unfinished run is; a finished one has it in its result
RUN_FILES = (RESULT_FILE, *MODEL_FILES, IDENTITY_FILE, STATE_FILE, LOCK_FILE)
SWEEP_FILES = (TABLE_FILE, REPORT_FILE, *TITLES)
WRITTEN = (*RUN_FILES, *SWEEP_FILES)  # everything that run and sweep folders hold
PROBE = ".probe"


@dataclass(frozen=True)
class Job:
    """One run: what it is, and where its outcome goes."""

    lr: float
    seed: int  # of batches and dropout
    folder: Path
    identity: dict  # everything that changes its numbers
    several_seeds: bool = False  # its learning rate is run with others too

    @property
    def label(self) -> str:
        return run_label(self.lr, self.seed, self.several_seeds)

    @property
    def finished(self) -> bool:
        return (self.folder / RESULT_FILE).is_file()


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
    folder: Path, common: dict, runs: list[tuple[float, int]], several_seeds: bool, overwrite: bool = False
) -> list[Job]:
    """A job for each (lr, seed) of a sweep in `folder`.

    Args:
        several_seeds: the names of the run folders tell the seed.
        overwrite: what is in the folders now does not matter.
    """
    jobs = []
    for lr, seed in runs:
        plain, seeded = folder / f"lr-{lr_label(lr)}", folder / f"lr-{lr_label(lr)}-seed{seed}"
        names = (seeded, plain) if several_seeds else (plain, seeded)
        # A sweep of another number of seeds may have done it already, under the other name.
        there = [name for name in names if not overwrite and (identity_in(name) or {}).get("seed") == seed]
        jobs.append(Job(lr, seed, (there or names)[0], common | {"lr": lr, "seed": seed}, several_seeds))
    return jobs


def identity_in(folder: Path) -> dict | None:
    """What the run in `folder` is, finished or not; None where there is none.

    Raises:
        ValueError: its file is damaged.
    """
    if (folder / RESULT_FILE).is_file():
        return read_result(folder)["identity"]
    file = folder / IDENTITY_FILE
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}); start anew with --overwrite") from None


def refuse_changes(folder: Path, wanted: dict, found: dict) -> None:
    """Raise a ValueError that names what differs between the run asked for and the one `found` in `folder`."""
    if changes := differences(wanted, found):
        raise ValueError(
            f"{folder} holds a run that differs: {changes}; repeat its settings, name another --out, "
            "or start anew with --overwrite"
        )


def new_folder(folder: Path, overwrite: bool = False, keep: Path | None = None, sweep: bool = False) -> Path:
    """Make `folder`, and be sure that it can be written to and holds nothing but what runs of ours left.

    Args:
        overwrite: first delete what earlier runs left in it, and nothing else.
        keep: the model that is to be trained; a folder that holds it is never touched.
        sweep: the folder is for several runs, each in a folder of its own, not for one.

    Raises:
        ValueError: something else is in it, or it cannot be made or written to.
    """
    try:
        if overwrite and folder.is_dir():
            used = (folder, *folder.glob("lr-*"))
            if keep is not None and keep.resolve() in [path.resolve() for path in used]:
                raise ValueError(f"--overwrite would delete the model {keep} itself; name another --out")
            for run_folder in (path for path in used if path != folder or is_of_a_run(path)):
                empty_folder(run_folder)
                if run_folder != folder and not any(run_folder.iterdir()):
                    run_folder.rmdir()
        if folder.is_dir() and (not is_of_a_run(folder) or any(is_foreign(path, sweep) for path in folder.iterdir())):
            raise ValueError(f"{folder} is already in use; name another --out, or start anew with --overwrite")
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / PROBE
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write to {folder} ({error.strerror}); name another --out") from None
    return folder


def empty_folder(run_folder: Path) -> None:
    """Delete what a run or a sweep has left in it, unless a process is at work there."""
    with claimed(run_folder) as ours:
        if not ours:
            raise ValueError(
                f"another process is at work in {run_folder} ({holder(run_folder)}); stop it first, or name another --out"
            )
        for name in (*WRITTEN, *([CARD_FILE] if has_run(run_folder) else [])):
            if name != LOCK_FILE:
                (run_folder / name).unlink(missing_ok=True)
        tidy(run_folder)


def tidy(run_folder: Path) -> None:
    """Delete what a process that was killed while it wrote has left: unfinished files under names of their own."""
    for path in run_folder.glob(".tmp*"):  # our own, and safetensors', which are .tmp and six letters
        path.unlink(missing_ok=True)


def has_run(folder: Path) -> bool:
    """Whether a run, finished or not, is in `folder`. Only then is a README.md there its card, and not somebody's."""
    return any((folder / name).is_file() for name in (RESULT_FILE, IDENTITY_FILE))


def is_of_a_run(folder: Path) -> bool:
    """Whether a run or a sweep has made `folder`: a model that came from elsewhere lies in it without a result."""
    return has_run(folder) or not any((folder / name).exists() for name in MODEL_FILES)


def is_foreign(path: Path, sweep: bool) -> bool:
    """Whether `path`, in a run's or a sweep's folder, is nothing that belongs there."""
    if sweep:
        ours = (*SWEEP_FILES, RATINGS_FILE, LOCK_FILE, PROBE)
        return not (path.is_dir() and path.name.startswith("lr-")) and path.name not in ours
    if path.name == CARD_FILE:
        return not has_run(path.parent)
    return path.name not in (*RUN_FILES, PROBE) and not path.name.startswith(".tmp")


def check_job(job: Job) -> None:
    """Raise a ValueError where the job's folder holds another run, a damaged state, or something else."""
    if not job.folder.is_dir():
        return
    new_folder(job.folder)
    found = identity_in(job.folder)
    if found is not None:
        refuse_changes(job.folder, job.identity, found)
    if (job.folder / STATE_FILE).is_file():
        load_state(job.folder / STATE_FILE)  # read twice, so that damage is found before the base model is evaluated


def check_neighbours(folder: Path, common: dict) -> None:
    """Raise a ValueError where a sweep's folder holds runs that do not belong in one table with the new ones."""
    for path in sorted(folder.glob("lr-*")):
        found = identity_in(path)
        if found is not None:
            own = {name: found.get(name) for name in ("lr", "seed")}
            refuse_changes(path, common | own, found)


def state_bytes(baseline: Baseline) -> int:
    """Size of a saved state: weights and two moments, 4 bytes each."""
    return 3 * 4 * parameter_count(baseline.config)


def check_room(folder: Path, baseline: Baseline, jobs: list[Job], at_once: int = 1) -> None:
    """Raise a ValueError if the disk of `folder` is too small for `jobs`, of which `at_once` are under way together.

    A state that replaces another needs room for both. Each job keeps its model if `save_model`.
    """
    state, save_model = state_bytes(baseline), baseline.settings.save_model
    needed = 2 * state * min(at_once, len(jobs)) + len(jobs) * save_model * state // 3
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    for job in jobs:  # what the same runs left there will be replaced
        for name in (STATE_FILE, "model.safetensors"):
            with contextlib.suppress(OSError):
                free += (job.folder / name).stat().st_size
    if free < needed:
        raise ValueError(
            f"the disk of {folder} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed: two states "
            "of an unfinished run, one replacing the other"
            + (" (and the models: --no-save-model)" if save_model else "")
            + "; make room, or name another --out"
        )


def default_folder(baseline: Baseline) -> Path:
    """Where runs of these settings go if nothing is said."""
    training, book = baseline.settings.training, baseline.book
    parts = [baseline.name, book.name + ("-raw" if book.raw else ""), str(training.samples)]
    return Path("runs") / "-".join(parts + ([f"seed{training.seed}"] if training.seed else []))
