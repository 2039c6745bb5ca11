"""One learning rate: before, train, after.

python -m train --lr 1e-4 --samples 50
"""

from pathlib import Path

from evaluate.flags import Parser, positive_float
from evaluate.report.closing import closing
from evaluate.results import lr_label, read_result
from train.flags import add_out_flags, add_request_flags, request_of
from train.lasting.claim import claimed, holder
from train.lasting.folder import Job, common_identity, default_folder
from train.lasting.interruption import Signals, ending_in_one_line
from train.lasting.run import Request, begin, follow, open_plan, prepare, run
from train.parallel.team import ALONE, Several, processes


def main() -> None:
    parser = Parser(
        prog="python -m train",
        description="Fine-tune GPT-2 at one learning rate: before, train, after. The same command again goes on where "
        "it was interrupted. Under torchrun all processes train one model, each with its part of every batch.",
    )
    parser.add_argument("--lr", type=positive_float, default=1e-4, help="learning rate, constant")
    add_out_flags(parser, "runs/MODEL-TEXT-SAMPLES/lr-LR")
    add_request_flags(parser)
    args = parser.parse_args()
    request = request_of(args)
    rank, size = processes()
    if rank > 0:
        follow(request, args.lr)
        return
    with parser.errors_in_one_line(), ending_in_one_line() as signals:
        if args.batch_size < size:
            raise ValueError(f"--batch-size {args.batch_size} leaves some of the {size} processes without a window")
        folder = train_one(request, args.lr, args.out, args.overwrite, signals)
        print(f"\n{closing([read_result(folder)])}\n")
        print(f"{'result and model are' if args.save_model else 'the result is'} in {folder}")


def train_one(request: Request, lr: float, out: Path | None, overwrite: bool, signals: Signals) -> Path:
    """Do the run at `lr`, if it is not finished already; returns its folder.

    Raises:
        ValueError, OSError: with one line on what to do.
        Interrupted: by a signal.
    """
    plan = open_plan(request)
    seed = plan.training.seed
    folder = out or default_folder(plan.setup, plan.training) / f"lr-{lr_label(lr)}"
    identity = common_identity(plan.setup, plan.training, plan.sampling, plan.machine) | {"lr": lr, "seed": seed}
    job = Job(lr, seed, folder, identity)
    prepare(plan, folder, [job], overwrite)
    with claimed(folder) as ours:
        if not ours:
            raise ValueError(
                f"another process is at work in {folder} ({holder(folder)}); wait for it, or name another --out"
            )
        to_do = not job.finished
        yardstick = begin(plan) if to_do else None
        team = Several(plan.machine.device) if processes()[1] > 1 else ALONE
        team.agree(int(to_do))  # only now the others begin, or leave
        if to_do:
            run(plan, yardstick, job, signals, team)
        else:
            print(f"this run is finished already: {folder}; --overwrite repeats it")
            team.leave()
    return folder


if __name__ == "__main__":
    main()
