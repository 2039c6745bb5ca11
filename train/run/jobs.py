"""What `python -m train` and `python -m train.sweep` do once their flags are read: one run is a sweep of one."""

import dataclasses
from pathlib import Path

from data.files import tidy, write_text
from data.settings import REPORT_FILE, Settings
from evaluate.baseline import Baseline
from evaluate.report.page import write_report
from evaluate.results import TABLE_FILE, TITLES, find_runs, folder_name
from evaluate.table import table, terminal_summary
from model.device import Machine
from train.parallel import agree, join, leave, own_device, processes, wait
from train.run.folder import SWEEP_FILES, Job, common_identity, default_folder, jobs_of
from train.run.lock import holder, locked
from train.run.run import begin, follow, open_run, prepare, run
from train.run.signals import Signals, ending_in_one_line


def train_one(settings: Settings, lr: float, out: Path | None, overwrite: bool) -> None:
    """Do the run at `lr`, if it is not finished already, and print its outcome. Several processes share its batches."""
    rank, size = processes()
    if settings.training.batch_size < size:
        raise ValueError(
            f"--batch-size {settings.training.batch_size} leaves some of the {size} processes without a window"
        )
    with ending_in_one_line() as signals:
        if size > 1:
            join(Machine(own_device(settings.device), settings.dtype).device)
        if rank > 0:
            return follow(settings, lr, signals)
        baseline, seed = open_run(settings), settings.training.seed
        job = Job(lr, seed, default_folder(baseline), common_identity(baseline) | {"lr": lr, "seed": seed})
        folder = out or job.folder / folder_name(job.identity)
        folder = folder.resolve() if folder.is_symlink() else folder  # the only link that is followed: it was asked for
        job = dataclasses.replace(job, folder=folder)
        prepare(baseline, folder, [job], overwrite, None)
        if job.finished:
            print(f"this run is finished already: {folder}; --overwrite repeats it")
            agree(0)  # the other processes of this run leave too
            leave()
        else:
            work(baseline, [job], signals)
        print(f"\n{terminal_summary(find_runs([folder]))}\n")
        print(f"{'result and model are' if settings.save_model else 'the result is'} in {folder}")


def sweep(settings: Settings, levers: list[dict], lrs: list[float], seeds: int, out: Path | None, overwrite: bool):
    """Do every run that is not finished, and compare. Several processes share the runs.

    Args:
        levers: their values, by the names in LEVERS, of each combination.
    """
    rank, size = processes()
    if overwrite and size > 1:
        raise ValueError("--overwrite is for one process; delete the folder first, then start the others")
    with ending_in_one_line() as signals:
        baseline = open_run(settings)
        folder, common = out or default_folder(baseline), common_identity(baseline)
        first = settings.training.seed
        grid = [(lr, seed, each) for seed in range(first, first + seeds) for each in levers for lr in lrs]
        jobs = jobs_of(folder, common, grid, seeds > 1, overwrite)
        prepare(baseline, folder, jobs, overwrite, common)
        work(baseline, jobs, signals)
        if rank == 0:
            report(folder)


def work(baseline: Baseline, jobs: list[Job], signals: Signals) -> None:
    """Do every job that is not finished and that no other process is doing; the first process stays until all are done.

    Each process begins at a different job. If one dies, another takes its job.
    """
    rank, polls = processes()[0], 0
    offset = rank % len(jobs)
    order = [*enumerate(jobs, start=1)][offset:] + [*enumerate(jobs, start=1)][:offset]
    for i, job in order:
        if rank == 0 and job.finished:
            print(f"{title(job, i, jobs)} is finished already: {job.folder}")
    begun = False
    while left := [(i, job) for i, job in order if not job.finished]:
        mine = 0
        for i, job in left:
            with locked(job.folder) as ours:
                if not ours or job.finished:
                    continue
                if len(jobs) > 1:
                    print(title(job, i, jobs), flush=True)
                if not begun:
                    begin(baseline, jobs)
                    agree(1)  # the other processes of this run begin only now
                    begun = True
                run(baseline, job, signals)
                mine += 1
        if not mine and rank > 0:
            return
        if not mine:
            wait(polls, ", ".join(f"{job.label} ({holder(job.folder)})" for _, job in left))
            polls += 1


def title(job: Job, i: int, jobs: list[Job]) -> str:
    return f"learning rate {job.name}, seed {job.seed} ({i} of {len(jobs)})"


def report(folder: Path) -> None:
    """Write table, figures and page of all results in `folder`, those of earlier sweeps too."""
    runs, written = find_runs([folder]), [folder / TABLE_FILE]
    write_text(written[0], table(runs))
    print(f"\n{terminal_summary(runs)}\n")
    try:
        from evaluate.report.plots import plot_all  # only here: it loads the library that draws

        tidy(folder, SWEEP_FILES)
        for name in TITLES:  # a figure that these runs do not have
            (folder / name).unlink(missing_ok=True)
        written += plot_all(runs, folder)
        written.append(write_report([folder], folder / REPORT_FILE, written[1:]))
    except Exception as error:  # whatever it is: the runs are done and safe, and only a drawing is missing
        print(f"note: figures or page could not be made ({type(error).__name__}: {' '.join(str(error).split())}); "
              f"python -m evaluate.report {folder} tries again")  # fmt: skip
    print(*written, sep="\n")
