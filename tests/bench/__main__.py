"""Ours against the usual notebook and against compiled peers, side by side: `make bench`, or `python -m tests.bench`.

Each pair is two processes that take turns, ours, theirs, ours, theirs: what slows the machine down slows both. The
first two turns of each warm up and are not counted: memory that lay idle is slow to come back, and a compiler compiles.
Quoted is the median of the ratios of neighbouring turns; a pair of turns in which one side took over 1.5 times its own
median is left out and counted. Memory is the most that a process has held since it started. On a GPU a turn has 30
steps, and launches and a sweep take the place of start, parts and runs. Writes bench.json and bench.md after every row.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from data.flags import Parser, positive_int
from data.tokenizer import copy_tokenizer, load_tokenizer
from model.device import Machine, fastest_dtype
from model.gpt2 import GPT2, GPT2Config
from model.hub import LILLIPUT
from model.pretrained import save_pretrained
from tests.bench import rows
from tests.bench.page import report
from tests.bench.workers import Worker, compare, compare_starts, run_seconds, their_python


def main() -> None:
    parser = Parser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--turns", type=positive_int, default=3, help="counted turns of each side")
    parser.add_argument("--only", default="", help="only what has this in its name; an empty word: everything")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of both sides; never tried on a GPU")
    parser.add_argument("--n-layer", type=positive_int, default=12, help="blocks of the model, GPT-2 124M's by default")
    parser.add_argument("--n-embd", type=positive_int, default=768, help="its width, a multiple of 64")
    tokenizer = "a folder with GPT-2's vocab.json and merges.txt (default: Lilliput's for a sweep, no runs on a CPU)"
    parser.add_argument("--tokenizer", type=Path, metavar="FOLDER", help=tokenizer)
    parser.add_argument("--text", default="voyage", help="of the sweep and the runs")
    parser.add_argument("--environment", type=Path, default=Path(".venv-bench"), help="for transformers, if not here")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder for bench.json and bench.md")
    args = parser.parse_args()
    with parser.errors_in_one_line():
        Machine(args.device, "float32")  # with its settings the float32 peak is the one that our side may reach
    python = their_python(args.environment)
    args.out.mkdir(parents=True, exist_ok=True)
    results = {
        "machine": {
            "cores": os.cpu_count(),
            "cpu": torch.cpu.get_capabilities().get("cpu_name", platform.processor()),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if args.device == "cuda" else args.device,
        },
        "matmul_flops": {n: matmul_peak(getattr(torch, n), args.device) for n in ("float32", "bfloat16")},
        **{part: {} for part in ("pairs", "launches", "profile", "runs")},
    }
    with tempfile.TemporaryDirectory() as folder:
        for _ in measured(results, args, python, Path(folder)):
            (args.out / "bench.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
            (args.out / "bench.md").write_text(report(results), encoding="utf-8")
    print((args.out / "bench.md").read_text(encoding="utf-8"))


def measured(results: dict, args, python: str | None, folder: Path) -> Iterator[None]:
    """Fill `results`; yields before the first row and after every one."""
    yield
    pairs, peaks = results["pairs"], results["matmul_flops"]
    fastest = "bfloat16" if peaks["bfloat16"] else "float32"
    common = {"model": random_model(folder / "model", args), "device": args.device}
    left_out = (rows.NOT_ON[args.device], rows.FLOAT32_STEP if fastest == "float32" else None)
    here = [name for name, (_, theirs) in rows.PAIRS.items() if name not in left_out and (python or "plain" in theirs)]
    for name in tqdm([name for name in here if args.only in name], "pairs", disable=None):
        ours, theirs = (
            {**task, **common, "dtype": task["dtype"].replace("auto", fastest)} for task in rows.PAIRS[name]
        )
        their_own = sys.executable if "plain" in theirs else python
        try:
            workers = Worker(sys.executable, "ours.py", ours), Worker(their_own, "theirs.py", theirs)
            pairs[name] = compare(*workers, args.turns)
        except RuntimeError as error:  # one side cannot do it here, as a compiler without its tools
            tqdm.write(f"{name}: {error}")
            continue
        if ours["work"] == "train":
            flops = rows.step_flops(args.n_layer, args.n_embd, ours["batch_size"], ours["seq_len"])
            pairs[name]["share_of_peak"] = flops / statistics.median(pairs[name]["seconds_ours"]) / peaks[ours["dtype"]]
        tqdm.write(f"{name}: {pairs[name]['ratio']:.2f} x")
        yield
    seen = "launches" if args.device == "cuda" else "profile"
    if args.only in seen:
        worker = Worker(sys.executable, "ours.py", rows.TRAIN | common | {"work": seen})
        results[seen] = [worker.turn() for _ in range(3)][-1][seen]
        worker.close()
        yield
    command = ("--text", args.text, "--device", args.device, "--model")
    if args.device == "cuda":
        if args.only in rows.SWEEP:
            tokenizer = args.tokenizer or LILLIPUT
            model = random_model(folder / "sweep", args, load_tokenizer(tokenizer).n_vocab)
            copy_tokenizer(tokenizer, Path(model))
            for run, seconds in run_seconds("train.sweep", *command, model).items():
                results["runs"][f"{rows.SWEEP}, {run}"] = seconds
            yield
        return
    if args.only in rows.START and python:
        task = rows.TRAIN | rows.FLOAT32 | common | {"work": "start", "batch_size": 1, "seq_len": 16}
        pairs[rows.START] = compare_starts(python, task, args.turns)
        yield
    if args.tokenizer and rows.DEFAULT_STEP in pairs:
        copy_tokenizer(args.tokenizer, Path(common["model"]))
        for name, samples, steps in ((rows.TRIAL, 20, 20), (rows.RUN, 100, 800)):
            # What is measured depends neither on the size of a batch nor, from 100 on, on the number of samples.
            flags = ("--samples", str(samples), "--batch-size", "1", "--no-save-model")
            _, seconds = run_seconds("train", *command, common["model"], *flags).values()
            training = steps * statistics.median(pairs[rows.DEFAULT_STEP]["seconds_ours"])
            results["runs"][name] = seconds | {"training": training}
            yield


def random_model(folder: Path, args, vocab_size: int = rows.VOCAB) -> str:
    """The folder of a model with random weights; heads are 64 wide as in GPT-2."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size, n_layer=args.n_layer, n_embd=args.n_embd, n_head=args.n_embd // 64)
    save_pretrained(GPT2(config), folder, end_of_text=vocab_size - 1)
    return str(folder)


def matmul_peak(dtype: torch.dtype, device: str) -> float | None:
    """FLOP a second of a square matrix product, the best of twenty; None where the hardware only imitates `dtype`."""
    if dtype == torch.bfloat16 and fastest_dtype(torch.device(device)) != dtype:
        return None
    size = 2048 if device == "cpu" else 8192  # a GPU has done the smaller one before it can be asked for the next
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(20):
        began = time.perf_counter()
        (a @ b)[0, 0].item()  # waits for a GPU
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


if __name__ == "__main__":
    main()
