"""One learning rate: before, train, after.

python -m train --lr 1e-4 --samples 50
"""

from evaluate.flags import Parser, positive_float
from evaluate.results import lr_label, read_result
from evaluate.table import table
from train.flags import add_out_flags, add_training_flags
from train.lasting.claim import claimed
from train.lasting.folder import Job, common_identity, default_folder
from train.lasting.interruption import ending_in_one_line
from train.lasting.run import begin, follow, open_run, prepare, run
from train.parallel.team import Team, processes


def main() -> None:
    parser = Parser(
        prog="python -m train",
        description="Fine-tune GPT-2 at one learning rate: before, train, after. The same command again goes on where "
        "it was interrupted. Under torchrun all processes train one model, each with its part of every batch.",
    )
    parser.add_argument(
        "--lr", type=positive_float, default=1e-4, help="learning rate, constant (default: %(default)s)"
    )
    add_out_flags(parser, "runs/MODEL-TEXT-SAMPLES/lr-LR")
    add_training_flags(parser)
    args = parser.parse_args()
    rank, size = processes()
    if rank > 0:
        follow(args)
        return
    with ending_in_one_line() as signals:
        try:
            if args.batch_size < size:
                raise ValueError(f"--batch-size {args.batch_size} leaves some of the {size} processes without a window")
            setup, device = open_run(args)
            folder = args.out or default_folder(setup, args) / f"lr-{lr_label(args.lr)}"
            identity = common_identity(setup, args, device) | {"lr": args.lr, "seed": args.seed}
            job = Job(args.lr, args.seed, folder, identity)
            opening = prepare(setup, device, args, folder, [job])
            with claimed(folder) as ours:
                if not ours:
                    raise ValueError(f"another process is at work in {folder}; wait for it, or name another --out")
                to_do = not job.finished
                start = begin(opening, args) if to_do else None
                team = Team(device) if size > 1 else None
                if team is not None:
                    team.agree(int(to_do))  # only now the others begin, or leave
                if to_do:
                    run(start, args, job, signals, team)
                else:
                    print(f"this run is finished already: {folder}; --overwrite repeats it")
                    if team is not None:
                        team.leave()
        except (ValueError, OSError) as error:
            parser.error(str(error))
    print(table([read_result(folder)]))
    print(f"{'result and model are' if args.save_model else 'the result is'} in {folder}")


if __name__ == "__main__":
    main()
