"""Runs the experiments of EXERCISES.md with three or five seeds and writes outcomes.md, which EXERCISES.md quotes.

python -m train.sweep demo; python -m tests.exercise.outcomes     all of them, 90 minutes on two cores; finished runs in
                                                                  runs/try are not repeated
python -m tests.exercise.outcomes 4 7                             only these two
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from evaluate.results import describe, find_runs
from evaluate.table import over_seeds

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OUTCOMES = HERE / "outcomes.md"
SEEDS = range(3)
MORE_SEEDS = range(5)  # from experiment 13 on
LEAD = (
    "Every experiment of ../EXERCISES.md with the seeds 0, 1, 2, and from the thirteenth on 0 to 4; made by "
    "`python -m tests.exercise.outcomes`."
)
NUMBER = re.compile(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w-])")  # not 1e-4


def preamble() -> str:
    """The lines that the experiments in Python share: the page's first block."""
    return re.search(r"```python\n((?:.*\n)*?)```", (HERE.parent / "EXERCISES.md").read_text(encoding="utf-8"))[1]


def experiments() -> list[tuple[str, str, str]]:
    """Title, language and lines of each experiment's first block of code."""
    page = (HERE.parent / "EXERCISES.md").read_text(encoding="utf-8")
    return re.findall(r"^## (\d.*)\n(?:(?!## ).*\n)*?```(\w+)\n((?:.*\n)*?)```", page, re.MULTILINE)


def sections() -> dict[str, str]:
    """The text of outcomes.md by title."""
    text = OUTCOMES.read_text(encoding="utf-8") if OUTCOMES.is_file() else ""
    found = re.findall(r"^## (.*)\n\n((?:(?!## ).*\n?)*)", text, re.MULTILINE)
    return {title: lines.strip() + "\n" for title, lines in found}


def output(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command)} ended with {done.returncode}")
    return done.stdout.decode("utf-8")


def ranges(printed: list[str]) -> str:
    """What is printed with all seeds: a number that differs between them becomes `lowest to highest`."""
    columns = zip(*(NUMBER.findall(text) for text in printed), strict=True)
    spans = iter([min(c, key=float) + (f" to {max(c, key=float)}" if len(set(c)) > 1 else "") for c in columns])
    return NUMBER.sub(lambda _: next(spans), printed[0])


def outcome(title: str, language: str, lines: str) -> str:
    """A sweep's table over its seeds, or what any other command prints with each seed."""
    if language == "python":
        seeds = MORE_SEEDS if int(title.split(".")[0]) >= 13 else SEEDS
        code = preamble() + lines
        printed = [output([sys.executable, "-c", code.replace("seed=0", f"seed={seed}")]) for seed in seeds]
        return "\n".join([*printed, "Lowest to highest:", "", ranges(printed)])
    commands = [[sys.executable, *shlex.split(line)[1:]] for line in lines.splitlines()]
    if "train.sweep demo" not in lines:
        return "\n".join(output([*commands[0], "--seed", str(seed)]) for seed in SEEDS)
    for command in commands:
        output(command + ["--seeds", str(len(SEEDS)), "--no-save-model"] * ("train.sweep" in command))
    written = []
    for folder in re.findall(r"--out (\S+)", lines):
        runs = find_runs([ROOT / folder])
        environment = runs[0].result["environment"]
        machine = f"{environment['dtype']}, {environment['device_name']}"
        written += [f"{folder}: {describe(runs)}; {machine}.", "", *over_seeds(runs)]
    return "\n".join(written)


def main() -> None:
    found, wanted = sections(), sys.argv[1:]
    for title, language, lines in experiments():
        if not wanted or title.split(".")[0] in wanted:
            print(title, flush=True)
            found[title] = outcome(title, language, lines).strip() + "\n"
            order = [title for title, _, _ in experiments() if title in found]
            OUTCOMES.write_text("\n".join([LEAD, "", *(f"## {t}\n\n{found[t]}" for t in order)]), encoding="utf-8")


if __name__ == "__main__":
    main()
