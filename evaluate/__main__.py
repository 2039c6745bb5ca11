"""The ratio of finished models, and their loss on a text, in two tables.

python -m evaluate runs/gpt2-gulliver-800/lr-1e-4 gpt2
python -m evaluate runs/demo/lr-3e-4 lilliput --text voyage --holdout 0.5 --seq-len 128   # both read the same
"""

import dataclasses
import math
import os
from functools import partial
from pathlib import Path

from data.flags import Parser, add_flags, filled
from data.settings import Sampling, Settings, Training

# What decides the ratio: names of flags' values, and the keys under which a run's result.json keeps them.
KEYS = {
    "text": "text",
    "raw_text": "raw_text",
    "sequences": "eval_sequences",
    "new_tokens": "eval_tokens",
    "temperature": "temperature",
    "top_k": "top_k",
    "seed": "seed",
}


def main() -> None:
    parser = Parser(
        prog="python -m evaluate",
        description="Let models write from random tokens and measure the share of the text's 100 most frequent tokens. "
        "Then measure how well they predict the text: loss, perplexity and bits per byte. A run folder, or its "
        "best/, is measured with the settings of the run, unless flags override them, on the text that the run held "
        "out. Any other model is measured with the flags, on the whole text or the share --holdout at its end.",
    )
    parser.add_argument(
        "folders",
        nargs="+",
        type=os.path.expanduser,
        metavar="FOLDER",
        help="a model folder, a run folder, gpt2 and its sizes, or owner/name",
    )
    add_flags(parser, Settings, "text and machine", ("text", "raw_text", "device", "dtype"))
    add_flags(parser, Training, "reading", ("holdout", "seq_len"), holdout=None, seq_len=None)
    add_flags(parser, Sampling, "sampling")
    parser.set_defaults(**dict.fromkeys(KEYS))  # None: not given
    args = parser.parse_args()
    given = {name: value for name, value in vars(args).items() if name in KEYS and value is not None}
    machine = {"device": args.device, "dtype": args.dtype}
    with parser.errors_in_one_line():
        from evaluate.baseline import open_baseline  # only now, see data/flags.py
        from evaluate.loss import text_loss
        from evaluate.measures.forgetting import logits_of
        from evaluate.results import BEST_FOLDER, EXPECTED, RESULT_FILE, read_result
        from evaluate.table import between
        from evaluate.verdicts import perplexity

        opened = []
        for folder in args.folders:  # open all before the first is measured: a wrong name should not cost that time
            of_run = Path(folder)
            if of_run.name == BEST_FOLDER and not (of_run / RESULT_FILE).is_file():
                of_run = of_run.parent  # the run that it belongs to, if there is one
            run = read_result(of_run)["settings"] if (of_run / RESULT_FILE).is_file() else None
            own = {name: run[key] for name, key in KEYS.items()} if run else {}
            if "text" in given:
                own["raw_text"] = False  # of another text
            settings = filled(Settings, machine | {"model": folder} | own | given)
            # Nothing is trained, so no window has to fit.
            settings = dataclasses.replace(settings, training=Training(holdout=0.0, seq_len=0))
            baseline = open_baseline(settings)
            book, total = baseline.book, len(baseline.tokens)
            if run and "text" not in given and (was := run["text_sha256"]) != (now := book.sha256):
                raise ValueError(
                    f"the text {settings.text} is not the one that {folder} was trained on (sha256 {now[:8]}, was "
                    f"{was[:8]}); name the text to measure it by with --text"
                )
            share = args.holdout
            if share is None and run and (run["text_sha256"], run["raw_text"]) == (book.sha256, book.raw):
                share = run["holdout"]
            seq_len = min(args.seq_len or (run or {}).get("seq_len", Training.seq_len), baseline.config.block_size)
            settings = dataclasses.replace(settings, training=Training(holdout=share or 0.0, seq_len=seq_len))
            part = round(share * total) if share else total
            if part < (3 if share else 2):  # each half of a held-out text predicts a token at least
                raise ValueError(
                    f"{part} of the {total} tokens of {settings.text} are too few to predict; use a longer text"
                )
            opened.append(dataclasses.replace(baseline, settings=settings, held_out=part))
        expected = " | ".join(f"expected {words}" for _, words in EXPECTED.values())
        print(f"| model | text | written | ratio (95 %) | {expected} | the book itself |")
        print("|---|---|---|---|---|---|---|")
        for baseline in opened:
            found, sampling, book = baseline.base_ratio, baseline.sampling, baseline.book
            cells = [
                baseline.settings.model,
                book.name + (" (as served)" if book.raw else ""),
                f"{sampling.sequences} x {sampling.new_tokens} tokens, temperature {sampling.temperature:g}, "
                f"top-k {sampling.top_k or 'off'}, seed {sampling.seed}, {baseline.machine.dtype_name}",
                f"{found.ratio:.3f}" + (f" ({between(found.ratio_ci, 1, 3)})" if found.ratio_ci else ""),
                *(f"{getattr(found, name).mean():.3f}" for name in EXPECTED),
                f"{baseline.book_ratio:.3f}",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)
        print("\n| model | read | loss (nats per token) | perplexity | bits per byte |")
        print("|---|---|---|---|---|")
        for baseline in opened:
            tokens, training = baseline.held_out_tokens.to(baseline.machine.device), baseline.settings.training
            if training.holdout:
                which, loss = "last", baseline.losses(baseline.base)["held_out_loss"]
            else:
                which, loss = "all", text_loss(partial(logits_of, baseline.base), tokens, training.seq_len)
            predicted = tokens[1:].tolist()
            bits = loss / math.log(2) * len(predicted)
            cells = [
                baseline.settings.model,
                f"{which} {len(tokens):,} tokens, in windows of {training.seq_len}",
                f"{loss:.3f}",
                perplexity(loss),
                f"{bits / len(baseline.tokenizer.decode_bytes(predicted)):.3f}",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
