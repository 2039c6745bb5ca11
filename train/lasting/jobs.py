"""One run, or the runs of a sweep: what the two commands do when their flags are read."""

from pathlib import Path

from data.settings import REPORT_FILE, Settings
from evaluate.baseline import Baseline
from evaluate.report.page import write_report
<<<<<<< HEAD
from evaluate.results import TABLE_FILE, find_runs, lr_label
from evaluate.table import table, terminal_summary
from train.lasting.claim import claimed, holder
from train.lasting.folder import Job, common_identity, default_folder, jobs_of
from train.lasting.interruption import Signals, ending_in_one_line
from train.lasting.run import begin, follow, open_run, prepare, run
from train.parallel.team import ALONE, Several, processes, readable_output, wait
=======
from evaluate.results import find_results, lr_label, read_result
from evaluate.table import TABLE_FILE, table
from model.device import Machine
from train.lasting.claim import claimed, holder
from train.lasting.folder import Job, common_identity, default_folder, jobs_of
from train.lasting.interruption import Signals, ending_in_one_line
from train.lasting.run import Plan, begin, follow, open_plan, prepare, run
from train.parallel import agree, join, leave, own_device, processes, wait
>>>>>>> f3bf36d8704d57cb845bb77b74c813e383a749e5


def train_one(request: Settings, lr: float, out: Path | None, overwrite: bool) -> None:
    """Do the run at `lr`, if it is not finished already, and say what came out.

    Raises:
        ValueError, OSError: with one line on what to do.
    """
    rank, size = processes()
    if request.training.batch_size < size:
        raise ValueError(
            f"--batch-size {request.training.batch_size} leaves some of the {size} processes without a window"
        )
    with ending_in_one_line() as signals:
        if size > 1:
            join(Machine(own_device(request.device), request.dtype).device)
        if rank > 0:
            return follow(request, lr, signals)
        folder = finished_run(request, lr, out, overwrite, signals)
        print(f"\n{terminal_summary(find_runs([folder]))}\n")
        print(f"{'result and model are' if request.save_model else 'the result is'} in {folder}")


def finished_run(request: Settings, lr: float, out: Path | None, overwrite: bool, signals: Signals) -> Path:
    """The folder of the run at `lr`, which is done here if it is not finished already.

    Raises:
        ValueError, OSError: with one line on what to do.
        Interrupted: by a signal.
    """
    baseline = open_run(request)
    seed = request.training.seed
    folder = out or default_folder(baseline) / f"lr-{lr_label(lr)}"
    identity = common_identity(baseline) | {"lr": lr, "seed": seed}
    job = Job(lr, seed, folder, identity)
    prepare(baseline, folder, [job], overwrite)
    with claimed(folder) as ours:
        if not ours:
            raise ValueError(
                f"another process is at work in {folder} ({holder(folder)}); wait for it, or name another --out"
            )
        to_do = not job.finished
<<<<<<< HEAD
        if to_do:
            begin(baseline)
        team = Several(baseline.machine.device) if processes()[1] > 1 else ALONE
        team.agree(int(to_do))  # only now the others begin, or leave
        if to_do:
            run(baseline, job, signals, team)
=======
        yardstick = begin(plan) if to_do else None
        agree(int(to_do))  # only now the other processes of this run begin, or leave
        if to_do:
            run(plan, yardstick, job, signals)
>>>>>>> f3bf36d8704d57cb845bb77b74c813e383a749e5
        else:
            print(f"this run is finished already: {folder}; --overwrite repeats it")
            leave()
    return folder


def sweep(request: Settings, lrs: list[float], seeds: int, out: Path | None, overwrite: bool) -> None:
    """Do every run that is not finished, and compare; several processes share the runs out.

    Raises:
        ValueError, OSError: with one line on what to do.
    """
    rank, size = processes()
    if overwrite and size > 1:
        raise ValueError("--overwrite is for one process; delete the folder first, then start the others")
<<<<<<< HEAD
    with readable_output(rank, size), ending_in_one_line() as signals:
        baseline = open_run(request)
        folder = out or default_folder(baseline)
        common = common_identity(baseline)
        first = request.training.seed
=======
    with ending_in_one_line() as signals:
        plan = open_plan(request)
        folder = out or default_folder(plan.setup, plan.training)
        common = common_identity(plan.setup, plan.training, plan.sampling, plan.machine)
        first = plan.training.seed
>>>>>>> f3bf36d8704d57cb845bb77b74c813e383a749e5
        grid = [(lr, seed) for seed in range(first, first + seeds) for lr in lrs]
        jobs = jobs_of(folder, common, grid, seeds > 1, overwrite)
        prepare(baseline, folder, jobs, overwrite, common)
        work(baseline, jobs, signals, rank)
        if rank == 0:
            report(folder)


def work(baseline: Baseline, jobs: list[Job], signals: Signals, rank: int) -> None:
    """Do every job that is not finished and that no other process has; the first process stays until all are finished.

    Each process walks the jobs from a place of its own. One that dies leaves its job to whoever comes by next.
    """
<<<<<<< HEAD
    begun, looks = False, 0
=======
    yardstick, polls = None, 0
>>>>>>> f3bf36d8704d57cb845bb77b74c813e383a749e5
    offset = rank % len(jobs)
    walk = [*enumerate(jobs, start=1)][offset:] + [*enumerate(jobs, start=1)][:offset]
    for i, job in walk:
        if rank == 0 and job.finished:
            print(f"{title(job, i, jobs)} is finished already: {job.folder}")
    while left := [(i, job) for i, job in walk if not job.finished]:
        mine = 0
        for i, job in left:
            with claimed(job.folder) as ours:
                if not ours or job.finished:
                    continue
                print(title(job, i, jobs), flush=True)
                if not begun:
                    begin(baseline)
                    begun = True
                run(baseline, job, signals)
                mine += 1
        if not mine and rank > 0:
            return
        if not mine:
            wait(polls, ", ".join(f"{job.label} ({holder(job.folder)})" for _, job in left))
            polls += 1


def title(job: Job, i: int, jobs: list[Job]) -> str:
    return f"learning rate {lr_label(job.lr)}, seed {job.seed} ({i} of {len(jobs)})"


def report(folder: Path) -> None:
    """Table, figures and page of all results in `folder`, those of earlier sweeps too."""
    runs, written = find_runs([folder]), [folder / TABLE_FILE]
    written[0].write_text(table(runs), encoding="utf-8")
    print(f"\n{terminal_summary(runs)}\n")
    try:
        from evaluate.report.plots import plot_all  # only here: it loads the library that draws

        written += plot_all(runs, folder)
        written.append(write_report([folder], folder / REPORT_FILE, written[1:]))
    except Exception as error:  # whatever it is: the runs are done and safe, and only a drawing is missing
        print(f"note: figures or page could not be made ({type(error).__name__}: {' '.join(str(error).split())}); "
              f"python -m evaluate.report {folder} tries again")  # fmt: skip
    print(*written, sep="\n")
