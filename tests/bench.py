"""Ours against the usual notebook, side by side: `make bench`, or `python -m tests.bench`.

Each pair is two processes that take turns, ours, theirs, ours, theirs: what slows the machine down
slows both. The first turns warm up and are not counted. Quoted is the median of the ratios of
neighbouring turns; a pair in which a side took over 1.5 times its own median is left out, and said.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import torch

from evaluate.cli import Parser, positive_int
from model import GPT2, GPT2Config, save_pretrained

HERE = Path(__file__).resolve().parent
TRAIN = {"work": "train", "batch_size": 16, "seq_len": 256}
GENERATE = {"work": "generate", "new_tokens": 100}

# name: (our task, their task, at least, aim); ratio = their time / our time.
PAIRS = {
    "training step, default against float32": (TRAIN | {"dtype": "auto"}, TRAIN | {"dtype": "float32"}, 4, 5),
    "training step, bfloat16 against autocast": (TRAIN | {"dtype": "bfloat16"}, TRAIN | {"dtype": "bfloat16"}, 1.6, 2),
    "training step, float32": (TRAIN | {"dtype": "float32"}, TRAIN | {"dtype": "float32"}, 1.2, 1.3),
    "generation 10 x 100, default against float32": (
        GENERATE | {"dtype": "auto", "sequences": 10},
        GENERATE | {"dtype": "float32", "sequences": 10},
        4,
        6,
    ),
    "generation 64 x 100, default against float32": (
        GENERATE | {"dtype": "auto", "sequences": 64},
        GENERATE | {"dtype": "float32", "sequences": 64},
        3,
        4.5,
    ),
    "generation 10 x 100, bfloat16": (
        GENERATE | {"dtype": "bfloat16", "sequences": 10},
        GENERATE | {"dtype": "bfloat16", "sequences": 10},
        2,
        3,
    ),
    "generation 64 x 100, bfloat16": (
        GENERATE | {"dtype": "bfloat16", "sequences": 64},
        GENERATE | {"dtype": "bfloat16", "sequences": 64},
        2,
        3,
    ),
    "AdamW step against torch's fused one": (
        {"work": "adamw", "dtype": "float32"},
        {"work": "adamw", "dtype": "float32"},
        0.8,
        1,
    ),
}


class Worker:
    """A process that prepares a task and then does it whenever it is asked to."""

    def __init__(self, python: str, script: str, task: dict):
        self.process = subprocess.Popen(
            [python, str(HERE / script), json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.prepared = self.answer()["seconds"]

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(map(str, self.process.args))} died with code {self.process.wait()}")
        return json.loads(line)

    def turn(self) -> dict:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compare(ours: Worker, theirs: Worker, turns: int) -> dict:
    """Seconds of both sides turn by turn, the ratio theirs / ours, and the memory each has needed."""
    for worker in (ours, theirs, ours, theirs):
        last = worker.turn()  # warm-up: memory that lay idle is slow to come back
    pairs = [(ours.turn(), theirs.turn()) for _ in range(turns)]
    seconds = [[answer["seconds"] for answer in side] for side in zip(*pairs)]
    medians = [statistics.median(side) for side in seconds]
    steady = [all(s <= 1.5 * m for s, m in zip(pair, medians)) for pair in zip(*seconds)]
    ratios = [b / a for (a, b), good in zip(zip(*seconds), steady) if good]
    return {
        "seconds_ours": seconds[0],
        "seconds_theirs": seconds[1],
        "ratio": statistics.median(ratios) if ratios else None,
        "pairs_left_out": steady.count(False),
        "peak_bytes_ours": pairs[-1][0]["peak_bytes"],
        "peak_bytes_theirs": pairs[-1][1]["peak_bytes"],
        "last_warm_up": last["seconds"],
    }


def their_python(folder: Path) -> str:
    """Python of an environment with transformers, made below `folder` on first use."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (folder / "installed").exists():
        venv.create(folder, with_pip=True)
        subprocess.run(
            [
                python,
                "-m",
                "pip",
                "install",
                "--quiet",
                f"torch=={torch.__version__.split('+')[0]}",
                "transformers>=5,<6",
            ],
            check=True,
        )
        (folder / "installed").touch()
    return str(python)


def matmul_peak(dtype: torch.dtype, size: int = 2048) -> float:
    """FLOP a second of a square matrix product, the best of several."""
    import time

    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    best = min(_timed(lambda: a @ b, time.perf_counter) for _ in range(8))
    return 2 * size**3 / best


def _timed(work, clock) -> float:
    began = clock()
    work()
    return clock() - began


def step_flops(config: GPT2Config, B: int, T: int) -> float:
    """Multiplications and additions of the products of one training step, forward and twice that backward."""
    per_layer = 2 * 12 * config.n_embd**2 * B * T + 4 * B * T * T * config.n_embd
    return 3 * (config.n_layer * per_layer + 2 * config.vocab_size * config.n_embd * B * T)


def main() -> None:
    parser = Parser(
        prog="python -m tests.bench", formatter_class=argparse.ArgumentDefaultsHelpFormatter, description=__doc__
    )
    parser.add_argument("--turns", type=positive_int, default=3, help="counted turns of each side")
    parser.add_argument("--only", default="", help="only the pairs whose name contains this")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--tokenizer", type=Path, help="folder with GPT-2's vocab.json and merges.txt (not timed)")
    parser.add_argument("--environment", type=Path, default=Path(".venv-bench"), help="where transformers is installed")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder for bench.json and bench.md")
    args = parser.parse_args()
    python = their_python(args.environment)
    args.out.mkdir(parents=True, exist_ok=True)
    results = {
        "matmul_flops": {name: matmul_peak(getattr(torch, name)) for name in ("float32", "bfloat16")},
        "pairs": {},
    }
    results["machine"] = {
        "cores": os.cpu_count(),
        "cpu": torch.cpu.get_capabilities().get("cpu_name", platform.processor()),
        "torch": torch.__version__,
        "device": args.device,
    }
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        torch.manual_seed(0)
        for name in ("vocab.json", "merges.txt"):  # nothing is tokenized here; the format wants the files
            content = (args.tokenizer / name).read_bytes() if args.tokenizer else b"{}" if name == "vocab.json" else b""
            (folder / name).write_bytes(content)
        save_pretrained(GPT2(GPT2Config()), folder / "model", tokenizer_folder=folder)
        common = {"model": str(folder / "model"), "device": args.device}
        for name, (our_task, their_task, least, aim) in PAIRS.items():
            if args.only not in name:
                continue
            ours = Worker(sys.executable, "bench_ours.py", our_task | common)
            theirs = Worker(python, "bench_theirs.py", their_task | common)
            try:
                found = compare(ours, theirs, args.turns)
            finally:
                ours.close()
                theirs.close()
            found |= {"at_least": least, "aim": aim}
            results["pairs"][name] = found
            print(f"{name}: {found['ratio']:.2f} x (at least {least}, aim {aim}); {found}", flush=True)
            (args.out / "bench.json").write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
