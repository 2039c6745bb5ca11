"""Several learning rates, one after another, each from the same fresh weights; then the table and the figure.

python -m train.sweep --lrs 1e-4 1e-5 1e-6 --samples 800
"""

from functools import partial
from pathlib import Path

from evaluate.flags import Parser, positive_float, positive_int
from evaluate.report.closing import closing
from evaluate.report.page import REPORT_FILE, write_report
from evaluate.results import find_results, lr_label
from evaluate.table import TABLE_FILE, table
from train.flags import add_out_flags, add_request_flags, request_of
from train.lasting.claim import claimed, holder
from train.lasting.folder import Job, common_identity, default_folder, jobs_of
from train.lasting.interruption import Signals, ending_in_one_line
from train.lasting.run import Plan, begin, open_plan, prepare, run
from train.parallel.team import processes, readable_output, wait


def main() -> None:
    parser = Parser(
        prog="python -m train.sweep",
        description="What does the learning rate do to a fine-tune? Trains at each one and compares. The same command "
        "again goes on where it was interrupted. Under torchrun, or started several times, the processes share the "
        "runs out.",
    )
    parser.add_argument(
        "--lrs",
        type=positive_float,
        nargs="+",
        default=[1e-4, 1e-5, 1e-6],
        metavar="LR",
        help="learning rates, each constant (default: 1e-4 1e-5 1e-6)",
    )
    parser.add_argument(
        "--seeds",
        type=partial(positive_int, most=1000),
        default=1,
        metavar="N",
        help="repeat every learning rate with N different orders of batches, from --seed on: how much of a difference "
        "is chance?",
    )
    add_out_flags(parser, "runs/MODEL-TEXT-SAMPLES")
    add_request_flags(parser)
    args = parser.parse_args()
    if len(set(map(lr_label, args.lrs))) < len(args.lrs):
        parser.error("--lrs names a learning rate twice; give each once")
    rank, size = processes()
    if args.overwrite and size > 1:
        parser.error("--overwrite is for one process; delete the folder first, then start the others")
    with readable_output(rank, size), parser.errors_in_one_line(), ending_in_one_line() as signals:
        plan = open_plan(request_of(args))
        folder = args.out or default_folder(plan.setup, plan.training)
        common = common_identity(plan.setup, plan.training, plan.sampling, plan.machine)
        grid = [(lr, seed) for seed in range(args.seed, args.seed + args.seeds) for lr in args.lrs]
        jobs = jobs_of(folder, common, grid, args.seeds > 1, args.overwrite)
        prepare(plan, folder, jobs, args.overwrite, common)
        work(plan, jobs, signals, rank)
        if rank == 0:
            report(folder)


def work(plan: Plan, jobs: list[Job], signals: Signals, rank: int) -> None:
    """Do every job that is not finished and that no other process has; the first process stays until all are finished.

    Each process walks the jobs from a place of its own. One that dies leaves its job to whoever comes by next.
    """
    yardstick, looks = None, 0
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
                yardstick = yardstick or begin(plan)
                run(plan, yardstick, job, signals)
                mine += 1
        if not mine and rank > 0:
            return
        if not mine:
            wait(looks, ", ".join(f"{job.label} ({holder(job.folder)})" for _, job in left))
            looks += 1


def title(job: Job, i: int, jobs: list[Job]) -> str:
    return f"learning rate {lr_label(job.lr)}, seed {job.seed} ({i} of {len(jobs)})"


def report(folder: Path) -> None:
    """Table, figures and page of all results in `folder`, those of earlier sweeps too."""
    results, written = find_results([folder]), [folder / TABLE_FILE]
    written[0].write_text(table(results), encoding="utf-8")
    print(f"\n{closing(results)}\n")
    try:
        from evaluate.plot import plot_all  # only here: it loads the library that draws

        written += plot_all(results, folder)
        written.append(write_report([folder], folder / REPORT_FILE, written[1:]))
    except Exception as error:  # whatever it is: the runs are done and safe, and only a drawing is missing
        print(f"note: figures or page could not be made ({type(error).__name__}: {' '.join(str(error).split())}); "
              f"python -m evaluate.report {folder} tries again")  # fmt: skip
    print(*written, sep="\n")


if __name__ == "__main__":
    main()
