"""Ours against the usual notebook, side by side: `make bench`, or `python -m tests.bench`.

Each pair is two processes that take turns, ours, theirs, ours, theirs: what slows the machine down
slows both. The first two turns of each warm up and are not counted: memory that lay idle is slow to
come back. Quoted is the median of the ratios of neighbouring turns; a pair of turns in which one side
took over 1.5 times its own median is left out and counted. Memory is the most that a process has held
since it started. Writes bench.json and bench.md.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import torch
from tqdm import tqdm

from evaluate.flags import Parser, positive_int
from model.device import device_of, fastest_dtype
from model.gpt2 import GPT2, GPT2Config
from model.pretrained import save_pretrained

HERE = Path(__file__).resolve().parent
TRAIN = {"work": "train", "batch_size": 16, "seq_len": 256}
GENERATE = {"work": "generate", "new_tokens": 100}
ADAMW = {"work": "adamw", "dtype": "float32"}

# (name, ours, theirs, at least, aim): the ratio is their time over ours.
PAIRS = (
    ("training step, default settings, against float32", TRAIN | {"dtype": "auto"}, TRAIN | {"dtype": "float32"}, 4, 5),
    ("training step, bfloat16, against autocast", TRAIN | {"dtype": "bfloat16"}, TRAIN | {"dtype": "bfloat16"}, 1.6, 2),
    ("training step, float32", TRAIN | {"dtype": "float32"}, TRAIN | {"dtype": "float32"}, 1.2, 1.3),
    *(
        (
            f"generation {rows} x 100, {ours}, against {theirs}",
            GENERATE | {"dtype": ours, "sequences": rows},
            GENERATE | {"dtype": theirs, "sequences": rows},
            least,
            aim,
        )
        for rows, ours, theirs, least, aim in (
            (10, "auto", "float32", 4, 6),
            (64, "auto", "float32", 3, 4.5),
            (10, "bfloat16", "bfloat16", 2, 3),
            (64, "bfloat16", "bfloat16", 2, 3),
            (10, "float32", "float32", 1, 2),  # where there is no bfloat16: nothing was asked for but to be no slower
            (64, "float32", "float32", 1, 2),
        )
    ),
    ("AdamW step, against torch's fused one", ADAMW, ADAMW, 0.8, 1),
    ("AdamW step with --compile, against torch's fused one", ADAMW | {"compile": True}, ADAMW, 0.8, 1),
)
# Ours alone: does the cost grow as it must? A model's size is n_layer x n_embd.
SCALING = (
    *(("samples", n, TRAIN | {"dtype": "auto", "batch_size": 4, "samples": n}) for n in (1, 2, 4)),
    *(("batch size", B, TRAIN | {"dtype": "auto", "batch_size": B}) for B in (4, 8, 16)),
    *(("window length", T, TRAIN | {"dtype": "auto", "batch_size": 4, "seq_len": T}) for T in (128, 256, 512)),
    *(("micro-batch", n, TRAIN | {"dtype": "auto", "micro_batch": n}) for n in (1, 2, 4, 8)),
    *(
        ("model size", size, TRAIN | {"dtype": "auto", "batch_size": 4, "size": size})
        for size in ("6x384", "12x768", "24x1024")
    ),
    *(("new tokens", n, GENERATE | {"dtype": "auto", "sequences": 10, "new_tokens": n}) for n in (50, 100, 200)),
)


class Worker:
    """A process that prepares a task and then does it whenever it is asked to."""

    def __init__(self, python: str, script: str, task: dict):
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            [python, str(HERE / script), json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.answer()  # prepared
        self.start_seconds = time.perf_counter() - self.began

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker died with code {self.process.wait()}: {' '.join(self.process.args)}")
        return json.loads(line)

    def turn(self) -> dict:
        """Do the task once: its seconds, and the most bytes held so far."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compare(ours: Worker, theirs: Worker, turns: int) -> dict:
    """Seconds of both sides turn by turn, the ratio theirs / ours, and the bytes each has needed."""
    for worker in (ours, theirs, ours, theirs):
        worker.turn()
    pairs = [(ours.turn(), theirs.turn()) for _ in range(turns)]
    seconds = [[answer["seconds"] for answer in side] for side in zip(*pairs)]
    medians = [statistics.median(side) for side in seconds]
    steady = [all(s <= 1.5 * m for s, m in zip(pair, medians)) for pair in zip(*seconds)]
    return {
        "seconds_ours": seconds[0],
        "seconds_theirs": seconds[1],
        "ratio": statistics.median(b / a for a, b, good in zip(*seconds, steady) if good),
        "pairs_left_out": steady.count(False),
        "peak_bytes_ours": pairs[-1][0]["peak_bytes"],
        "peak_bytes_theirs": pairs[-1][1]["peak_bytes"],
    }


def compare_starts(python: str, common: dict, turns: int) -> dict:
    """Seconds from starting the interpreter to the end of the first training step of one short window."""
    task = TRAIN | {"work": "start", "batch_size": 1, "seq_len": 16, "dtype": "float32"} | common
    seconds = {"ours": [], "theirs": []}
    for _ in range(turns + 1):
        for side, interpreter, script in (
            ("ours", sys.executable, "bench_ours.py"),
            ("theirs", python, "bench_theirs.py"),
        ):
            worker = Worker(interpreter, script, task)
            worker.close()
            seconds[side].append(worker.start_seconds)
    ours, theirs = seconds["ours"][1:], seconds["theirs"][1:]  # the first of each filled the file cache
    ratio = statistics.median(b / a for a, b in zip(ours, theirs))
    aims = (2, 3) if common["device"] == "cpu" else (None, None)
    return {"seconds_ours": ours, "seconds_theirs": theirs, "ratio": ratio, "at_least": aims[0], "aim": aims[1]}


def their_python(folder: Path) -> str:
    """Python of an environment with transformers, made in `folder` on first use."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = folder / "installed"
    if not done.exists():
        venv.create(folder, with_pip=True)
        packages = [f"torch=={torch.__version__.split('+')[0]}", "transformers>=5,<6"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        done.touch()
    return str(python)


def matmul_peak(dtype: torch.dtype, device: str) -> float | None:
    """FLOP a second of a square matrix product, the best of twenty; None where the hardware only imitates `dtype`."""
    if dtype == torch.bfloat16 and fastest_dtype(torch.device(device)) != dtype:
        return None
    size = 2048 if device == "cpu" else 8192  # a GPU has done the smaller one before it can be asked for the next
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(20):
        if device != "cpu":
            torch.cuda.synchronize()
        began = time.perf_counter()
        a @ b
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


def step_flops(config: GPT2Config, B: int, T: int) -> float:
    """FLOP of the matrix products in one training step: forward, and twice that backward.

    Two for each weight of a layer (12 C^2) and of the head (V C) and each token, and 4 T C for each
    token and layer in the attention (counted whole, as it is computed without a causal shortcut).
    """
    weights = config.n_layer * 12 * config.n_embd**2 + config.vocab_size * config.n_embd
    return 3 * B * T * (2 * weights + config.n_layer * 4 * T * config.n_embd)


def report(results: dict) -> str:
    """The Markdown tables of `results`."""
    machine, peak = results["machine"], results["matmul_flops"]
    low = f"{peak['bfloat16'] / 1e9:.0f} in bfloat16" if peak["bfloat16"] else "bfloat16 is only imitated: left out"
    lines = [
        f"Measured on {machine['cores']} cores of {machine['cpu']} ({machine['instructions']}), device {machine['device']}, "
        f"torch {machine['torch']}; matrix products reach {peak['float32'] / 1e9:.0f} GFLOP/s in float32, {low}.",
        "",
        "| work | ratio | asked for | ours (s) | notebook (s) | memory, ours / notebook (GB) | of the peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in results["pairs"].items():
        memory = ""
        if "peak_bytes_ours" in found:
            memory = f"{found['peak_bytes_ours'] / 1e9:.1f} / {found['peak_bytes_theirs'] / 1e9:.1f}"
        share = f"{100 * found['share_of_peak']:.0f} %" if "share_of_peak" in found else ""
        ours, theirs = (statistics.median(found[f"seconds_{side}"]) for side in ("ours", "theirs"))
        asked = f"{found['at_least']} to {found['aim']}" if found["aim"] else ""
        left_out = f" ({found['pairs_left_out']} pairs left out)" if found.get("pairs_left_out") else ""
        lines.append(
            f"| {name} | {found['ratio']:.2f}{left_out} | {asked} | {ours:.3g} | {theirs:.3g} | {memory} | {share} |"
        )
    lines += ["", "| ours, varying | value | tokens/s | memory (GB) |", "|---|---|---|---|"]
    for row in results["scaling"]:
        lines.append(
            f"| {row['varies']} | {row['value']} | {row['tokens_per_second']:.0f} | {row['peak_bytes'] / 1e9:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = Parser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--turns", type=positive_int, default=3, help="counted turns of each side")
    parser.add_argument("--only", default="", help="only what has this in its name; an empty word: everything")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of both sides; never tried on cuda")
    parser.add_argument("--n-layer", type=positive_int, default=12, help="blocks of the model, GPT-2 124M's by default")
    parser.add_argument("--n-embd", type=positive_int, default=768, help="its width, a multiple of 64")
    parser.add_argument("--environment", type=Path, default=Path(".venv-bench"), help="where transformers is installed")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder for bench.json and bench.md")
    args = parser.parse_args()
    with parser.errors_in_one_line():
        device_of(args.device)
    torch.backends.cuda.matmul.allow_tf32 = True  # the peak that our side may reach in float32
    python = their_python(args.environment)
    args.out.mkdir(parents=True, exist_ok=True)
    config = GPT2Config(n_layer=args.n_layer, n_embd=args.n_embd, n_head=args.n_embd // 64)
    results = {
        "machine": {
            "cores": os.cpu_count(),
            "cpu": torch.cpu.get_capabilities().get("cpu_name", platform.processor()),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if args.device == "cuda" else args.device,
        },
        "matmul_flops": {name: matmul_peak(getattr(torch, name), args.device) for name in ("float32", "bfloat16")},
        "pairs": {},
        "scaling": [],
    }

    def keep() -> None:
        (args.out / "bench.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
        (args.out / "bench.md").write_text(report(results), encoding="utf-8")

    with tempfile.TemporaryDirectory() as folder:

        def model_of_size(n_layer: int, n_embd: int) -> str:
            """The folder of a model with random weights, made on first use; heads are 64 wide as in GPT-2."""
            model_folder = Path(folder) / f"{n_layer}x{n_embd}"
            if not model_folder.exists():
                torch.manual_seed(0)
                model = GPT2(GPT2Config(n_layer=n_layer, n_embd=n_embd, n_head=n_embd // 64))
                save_pretrained(model, model_folder, end_of_text=50256)
            return str(model_folder)

        common = {"model": model_of_size(args.n_layer, args.n_embd), "device": args.device}
        pairs = [pair for pair in PAIRS if args.only in pair[0]]
        if args.device != "cpu":
            pairs = [(*pair[:3], None, None) for pair in pairs if not pair[1].get("compile")]  # aimed at for CPUs
        if not results["matmul_flops"]["bfloat16"]:
            # Imitated, a single step would take hours.
            pairs = [pair for pair in pairs if "bfloat16" not in (pair[1]["dtype"], pair[2]["dtype"])]
        for name, our_task, their_task, least, aim in tqdm(pairs, "pairs", disable=None):
            workers = (
                Worker(sys.executable, "bench_ours.py", our_task | common),
                Worker(python, "bench_theirs.py", their_task | common),
            )
            try:
                found = compare(*workers, args.turns) | {"at_least": least, "aim": aim}
            finally:
                for worker in workers:
                    worker.close()
            if our_task["work"] == "train":
                # auto has been bfloat16 here if that peak is the higher one.
                low = our_task["dtype"] != "float32" and results["matmul_flops"]["bfloat16"]
                flops = step_flops(config, our_task["batch_size"], our_task["seq_len"])
                found["share_of_peak"] = (
                    flops / statistics.median(found["seconds_ours"]) / (low or results["matmul_flops"]["float32"])
                )
            results["pairs"][name] = found
            tqdm.write(f"{name}: {found['ratio']:.2f} x{f' (asked for: {least} to {aim})' if aim else ''}")
            keep()
        if args.only in "start to first training step, cached model":
            results["pairs"]["start to first training step, cached model"] = compare_starts(python, common, args.turns)
            keep()
        for varies, value, task in tqdm([row for row in SCALING if args.only in row[0]], "scaling", disable=None):
            size = {"model": model_of_size(*map(int, task["size"].split("x")))} if "size" in task else {}
            worker = Worker(sys.executable, "bench_ours.py", task | common | size)
            worker.turn()
            answers = [worker.turn() for _ in range(args.turns)]
            worker.close()
            seconds = statistics.median(answer["seconds"] for answer in answers)
            if task["work"] == "generate":
                tokens = task["sequences"] * task["new_tokens"]
            else:
                tokens = task.get("samples", 1) * task["batch_size"] * task["seq_len"]
            results["scaling"].append(
                {
                    "varies": varies,
                    "value": value,
                    "task": task,
                    "tokens_per_second": tokens / seconds,
                    "peak_bytes": answers[-1]["peak_bytes"],
                }
            )
            keep()
    print((args.out / "bench.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
