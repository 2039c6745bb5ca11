"""Ours against the usual notebook and against compiled peers, side by side: `make bench`, or `python -m tests.bench`.

Each pair is two processes that take turns, ours, theirs, ours, theirs: what slows the machine down slows both. The first
two turns of each warm up and are not counted: memory that lay idle is slow to come back, and a compiler compiles. Quoted
is the median of the ratios of neighbouring turns; a pair of turns in which one side took over 1.5 times its own median is
left out and counted. Memory is the most that a process has held since it started. Writes bench.json and bench.md.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from data.flags import Parser, positive_int
from data.tokenizer import copy_tokenizer
from model.device import device_of
from model.gpt2 import GPT2, GPT2Config
from model.pretrained import save_pretrained
from tests.bench import alone
from tests.bench.page import report
from tests.bench.rows import (
    DEFAULT_STEP,
    HELP,
    PAIRS,
    REFUSAL,
    RUN,
    SCALING,
    START,
    TRAIN,
    TRIAL,
    least_seconds,
    step_flops,
)
from tests.bench.workers import Worker, compare, compare_starts, their_python


def main() -> None:
    parser = Parser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--turns", type=positive_int, default=3, help="counted turns of each side")
    parser.add_argument("--only", default="", help="only what has this in its name; an empty word: everything")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of both sides; never tried on cuda")
    parser.add_argument("--n-layer", type=positive_int, default=12, help="blocks of the model, GPT-2 124M's by default")
    parser.add_argument("--n-embd", type=positive_int, default=768, help="its width, a multiple of 64")
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FOLDER",
        help="a folder with GPT-2's vocab.json and merges.txt, for the rows that run the whole command (default: without)",
    )
    parser.add_argument("--text", default="voyage", help="what those rows train on and measure")
    parser.add_argument("--environment", type=Path, default=Path(".venv-bench"), help="where transformers is installed")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder for bench.json and bench.md")
    args = parser.parse_args()
    with parser.errors_in_one_line():
        device_of(args.device)
    torch.backends.cuda.matmul.allow_tf32 = True  # the peak that our side may reach in float32
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
        "matmul_flops": {n: alone.matmul_peak(getattr(torch, n), args.device) for n in ("float32", "bfloat16")},
        "pairs": {},
        "alone": {},
        "profile": {},
        "scaling": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        for _ in measured(results, args, python, Path(folder)):
            (args.out / "bench.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
            (args.out / "bench.md").write_text(report(results), encoding="utf-8")
    print((args.out / "bench.md").read_text(encoding="utf-8"))


def measured(results: dict, args, python: str, folder: Path) -> Iterator[None]:
    """Fill `results`; yields after every row."""
    config = GPT2Config(n_layer=args.n_layer, n_embd=args.n_embd, n_head=args.n_embd // 64)
    common = {"model": random_model(folder, args.n_layer, args.n_embd), "device": args.device}
    fastest = "bfloat16" if results["matmul_flops"]["bfloat16"] else "float32"
    pairs = [resolved(pair, fastest) for pair in PAIRS if wanted(pair, results, args)]
    pairs = [pair for i, pair in enumerate(pairs) if pair[1:] not in [earlier[1:] for earlier in pairs[:i]]]
    for name, ours, theirs in tqdm(pairs, "pairs", disable=None):
        found = compare(
            Worker(sys.executable, "ours.py", ours | common), Worker(python, "theirs.py", theirs | common), args.turns
        )
        if ours["work"] == "train":
            flops = step_flops(config, ours["batch_size"], ours["seq_len"])
            peak = results["matmul_flops"][ours["dtype"]]
            found["share_of_peak"] = flops / statistics.median(found["seconds_ours"]) / peak
        results["pairs"][name] = found
        tqdm.write(f"{name}: {found['ratio']:.2f} x")
        yield
    if args.only in START:
        results["pairs"][START] = compare_starts(python, common, args.turns)
        yield
    for name, flags in ((HELP, ["--help"]), (REFUSAL, ["--lr", "nan"])):
        if args.only in name:
            results["alone"][name] = alone.command_seconds(flags)
            yield
    step = results["pairs"].get(DEFAULT_STEP)
    if args.tokenizer and step:
        copy_tokenizer(args.tokenizer, Path(common["model"]))
        for name, run, steps in ((TRIAL, 20, 20), (RUN, 100, 800)):
            if args.only in name:
                found = alone.measuring(common["model"], args.text, args.device, run)
                training = steps * statistics.median(step["seconds_ours"])
                results["alone"][name] = sum(found.values()) / (sum(found.values()) + training)
                results["alone"][f"{name}, of it"] = found | {"training": training}
                yield
    if args.only in "profile" and args.device == "cpu":
        worker = Worker(sys.executable, "ours.py", TRAIN | {"work": "profile", "dtype": "auto"} | common)
        seconds = [worker.turn() for _ in range(3)][-1]["parts"]
        worker.close()
        least = least_seconds(
            config, 16, 256, getattr(torch, fastest), results["matmul_flops"][fastest], alone.memory_bandwidth()
        )
        results["profile"] = {part: [spent, least.get(part)] for part, spent in seconds.items()}
        yield
    for varies, value, task in tqdm([row for row in SCALING if args.only in row[0]], "scaling", disable=None):
        size = {"model": random_model(folder, *map(int, task["size"].split("x")))} if "size" in task else {}
        results["scaling"].append(
            {"varies": varies, "value": value, "task": task} | scaled(task | common | size, args.turns)
        )
        yield


def wanted(pair: tuple, results: dict, args) -> bool:
    name, ours, theirs = pair
    if args.only not in name:
        return False
    # Where bfloat16 is only imitated, a single step would take minutes.
    return results["matmul_flops"]["bfloat16"] is not None or "bfloat16" not in (ours["dtype"], theirs["dtype"])


def resolved(pair: tuple, fastest: str) -> tuple:
    """`pair` with "auto" replaced by what it is here; where that is float32, rows that name float32 say the same again."""
    name, *tasks = pair
    return name, *(task | {"dtype": fastest if task["dtype"] == "auto" else task["dtype"]} for task in tasks)


def random_model(folder: Path, n_layer: int, n_embd: int) -> str:
    """The folder of a model with random weights, made on first use; heads are 64 wide as in GPT-2."""
    model_folder = folder / f"{n_layer}x{n_embd}"
    if not model_folder.exists():
        torch.manual_seed(0)
        model = GPT2(GPT2Config(n_layer=n_layer, n_embd=n_embd, n_head=n_embd // 64))
        save_pretrained(model, model_folder, end_of_text=50256)
    return str(model_folder)


def scaled(task: dict, turns: int) -> dict:
    """Tokens a second and bytes of ours at `task`."""
    worker = Worker(sys.executable, "ours.py", task)
    worker.turn()
    answers = [worker.turn() for _ in range(turns)]
    worker.close()
    if task["work"] == "generate":
        tokens = task["sequences"] * task["new_tokens"]
    else:
        tokens = task.get("samples", 1) * task["batch_size"] * task["seq_len"]
    seconds = statistics.median(answer["seconds"] for answer in answers)
    return {"tokens_per_second": tokens / seconds, "peak_bytes": answers[-1]["peak_bytes"]}


if __name__ == "__main__":
    main()
