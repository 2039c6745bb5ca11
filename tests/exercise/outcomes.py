"""What comes out of the experiments of tests/EXERCISES.md, over three seeds, to tests/exercise/outcomes.md.

make demo
python -m tests.exercise.outcomes        # all; or some: python -m tests.exercise.outcomes 4 7
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from evaluate.report.chance import over_seeds
from evaluate.results import find_results
from tests.exercise.copies import ROOT

PAGE, OUTCOMES = ROOT / "tests" / "EXERCISES.md", Path(__file__).with_name("outcomes.md")
SEEDS = 3


def sections(page: str) -> dict[str, str]:
    """The parts of a page below its headings, by their titles."""
    return dict(re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", page, re.MULTILINE))


def printed_by(command: list[str]) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PATH": path}, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def outcome(section: str) -> str:
    """What the first block of code in a section gives over the seeds, as Markdown."""
    language, code = re.search(r"```(\w+)\n(.*?)```", section, re.DOTALL).groups()
    if language == "python":
        runs = [printed_by([sys.executable, "-c", code.replace("seed=0", f"seed={seed}")]) for seed in range(SEEDS)]
        return "".join(f"seed {seed}: {printed}\n" for seed, printed in enumerate(runs))
    if "make demo" not in code:
        runs = [printed_by([*shlex.split(code), "--seed", str(seed)]) for seed in range(SEEDS)]
        return runs[0] + "".join(line + "\n" for run in runs[1:] for line in run.splitlines()[2:])
    several = "--no-save-model" if "--seeds" in code else f"--seeds {SEEDS} --no-save-model"
    printed_by(["bash", "-ec", code.replace('FLAGS="', f'FLAGS="{several} ')])
    tables = [over_seeds(find_results([ROOT / folder]))[:-1] for folder in re.findall(r"--out (\S+?)[\"\s]", code)]
    return "\n\n".join("\n".join(table) for table in tables) + "\n"


def main() -> None:
    found = sections(OUTCOMES.read_text(encoding="utf-8")) if OUTCOMES.is_file() else {}
    experiments = sections(PAGE.read_text(encoding="utf-8"))
    for title, section in experiments.items():
        if not sys.argv[1:] or title.split(".")[0] in sys.argv[1:]:
            print(title, flush=True)
            found[title] = f"\n{outcome(section)}\n"
        lines = [
            "What comes out of tests/EXERCISES.md, over three seeds; made by `python -m tests.exercise.outcomes`.\n\n"
        ]
        lines += [f"## {title}\n{found[title]}" for title in experiments if title in found]
        OUTCOMES.write_text("".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
