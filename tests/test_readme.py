"""The READMEs: their numbers are the demo's, their quotes are the models', their code runs, their maps are complete."""

import importlib.util
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data.flags import Parser
from tests.exercise import outcomes
from tests.exercise.__main__ import course
from tests.mutants import NOT_COPIED

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "model" / "lilliput" / "demo"
ROOMS = ("data", "model", "train", "evaluate")
MAPPED = (".py", ".html", ".css", ".txt", ".json", ".safetensors", ".md", ".png", ".ipynb")  # what a map has to name


def top() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return top().split(f"## {title}\n")[1].split("\n## ")[0]


def prose(text: str) -> str:
    """`text` in one line, without tables, quotes and pictures."""
    return " ".join(line for line in text.splitlines() if line[:1] not in ("|", "<", ">"))


def rows(text: str) -> dict[str, list[str]]:
    """The cells of every line of a Markdown table, by the first one."""
    lines = [re.split(r"(?<!\\)\|", line.strip("|")) for line in text.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_ten_minutes():
    assert len(top().split()) <= 1280


def test_the_demos_numbers_are_those_of_its_table():
    written = (DEMO / "table.md").read_text(encoding="utf-8")
    shown, found = rows(section("What the demo shows")), rows(written)
    titles = found["model"]
    for name, cells in shown.items():
        whole = [found[name][titles.index(title)] for title in shown["model"]]
        assert set(cells) <= {"---"} or all(cell in (of, of.split()[0]) for cell, of in zip(cells, whole, strict=True))
    largest, middle, smallest = rates = [name for name in found if re.fullmatch(r"\de-\d", name)]
    assert list(found) == list(shown) and rates == sorted(rates, key=float, reverse=True)

    def number(row: str, title: str) -> str:
        return found[row][titles.index(title)].split()[0]

    size, own = re.search(r"[\d.]+ million parameters", written)[0], re.search(r"own ratio is ([\d.]+\d)", written)[1]
    at = re.search(r"\((\d+)\)", found[middle][titles.index("lowest held-out loss (step)")])[1]
    of_largest = [page[largest] for page in seeds()]
    low, high = zip(*(span(cells["ratio"]) for cells in of_largest))
    scatter, writing = ([sd(cells, title) for cells in of_largest] for title in ("ratio", "sd of the ratio's writing"))
    assert all(a > 1.5 * float(b) for a, b in zip(map(float, scatter), writing))  # too narrow
    sentences = [
        f"a language model of {size}",
        f"{largest} *takes too large a step*, then *over-fits*",
        f"the held-out loss ends at {number(largest, 'held-out loss')}, far above the base model's "
        f"{number('base model', 'held-out loss')}",
        f"It *copies*: {number(largest, 'copied (%)')} % of its tokens",
        f"{middle} *over-fits* from step {at} on; its weights of that step are in `best/`. {smallest} has the *lowest loss*",
        f"Without top-k, {largest} has the highest ratio; with it, the lowest, and all three exceed the tale's {own}",
        f"At {largest} the ratio ends at {min(low):.3f} to {max(high):.3f}",
        f"its standard error is {writing[0]} and {writing[1]}, over orders {scatter[0]} and {scatter[1]}",
        "without top-k highest in 4 of 5 orders, with it lowest in 4 of 5, in each precision",
        f"{smallest} *fits best*",
        f"{middle} turns (is best) at step 10 to 25",
        # What is no measurement: the list of frequent tokens, the interval, the models, how the texts are drawn.
        "among the 100 most frequent",
        "intervals are 95 %",
        "`--seeds 5`",
        "from the 50 likeliest",
        "not GPT-2 on Gulliver",
        "in runs of 13 or more",
    ]
    text = prose(section("What the demo shows"))
    for sentence in sentences:
        assert sentence in text, sentence
        text = text.replace(sentence, "")
    left = text.replace("float32", "").replace("bfloat16", "")
    assert not re.findall(r"\b\d\S*", left)  # no number without a source


def test_what_the_commands_answered_is_quoted():
    """Each piece of a quote stands in what the demo or `make mine` printed; where something is left out, there is a …"""
    answers = [(DEMO / name).read_text(encoding="utf-8") for name in ("table.md", "mine.txt")]
    quotes = re.findall(r"(?:^>.*\n)+", top(), re.MULTILINE)[1:]  # the first is what a model writes
    assert len(quotes) == len(answers)
    for quote, answer in zip(quotes, answers):
        pieces = " ".join(line.removeprefix(">").strip() for line in quote.splitlines()).removesuffix(" …").split(" … ")
        assert all(piece in " ".join(answer.split()) for piece in pieces), quote


def test_the_clocks_numbers_are_those_of_the_map():
    text, written = (
        section("The learning rate is a clock"),
        (DEMO.parent / "map" / "map.md").read_text(encoding="utf-8"),
    )
    tale = written.split("## voyage\n")[1]
    shown, found = rows(text), rows(tale)
    for name, cells in list(shown.items())[2:]:
        assert cells == [found[name][found["rate"].index(title)] for title in shown["rate"]]
    for number in re.findall(r"\d\.\d{3}(?: to \d\.\d{3})?", prose(text)):
        assert number in tale, number
    # "At equal rate x step the smaller rate is better": the ranges of ten runs lie apart, on both of the longer texts.
    for title in ("gulliver", "dream_of_john_ball"):
        table = rows(written.split(f"## {title}\n")[1].split("\n## ")[0])
        small, middle, large = (span(table[rate][-1]) for rate in ("3e-5", "1e-4", "3e-4"))
        assert small[1] < middle[0] and middle[1] < large[0]
        assert "3e-5 in 0 of 10" in written.split(f"## {title}\n")[1].split("Turn within their steps")[1].split("\n")[0]


def test_the_levers_numbers_are_those_of_their_table():
    text, written = (
        section("What makes the rate matter less"),
        (DEMO.parent / "levers" / "levers.md").read_text("utf-8"),
    )
    shown, found = rows(text), rows(written)
    assert list(shown) == list(found)
    for name, cells in list(shown.items())[2:]:
        assert cells == [*(cell.split()[0] for cell in found[name][:-1]), found[name][-1]]
    for number in re.findall(r"\d\.\d{3}", prose(text)):
        assert number in written, number
    counted = re.findall(r"The leash ends below nothing and below the linear decay at \S+ in (\d+) of (\d+)", written)
    assert counted == [("10", "10")] * 2


def seeds() -> list[dict[str, dict[str, str]]]:
    """The table over the seeds in each precision, {rate: {title: cell}}."""
    parts = (DEMO / "seeds.md").read_text(encoding="utf-8").split("\n## ")[1:]
    tables = [rows(part) for part in parts]
    return [{r: dict(zip(t["learning rate"], cells)) for r, cells in t.items() if r[0].isdigit()} for t in tables]


def sd(cells: dict[str, str], title: str) -> str:
    return re.search(r"(?:sd )?([\d.]+)(?: \(|$)", cells[title])[1]


def span(cell: str) -> tuple[float, float]:
    """Lowest and highest of `0.542 sd 0.030 (0.501 to 0.584)`."""
    return tuple(map(float, re.search(r"\(([\d.]+) to ([\d.]+)\)", cell).groups()))


def test_what_the_readme_says_of_the_demo_holds_over_the_seeds():
    """Ten runs of each rate, in two precisions: every verdict that the README quotes, and every comparison it makes."""
    pages = seeds()
    runs = sum(int(page["3e-3"]["seeds"]) for page in pages)
    assert len(pages) == 2 and runs == 10
    quoted = {"3e-3": ("takes too large a step", "over-fits", "copies"), "3e-4": ("over-fits",)}
    for rate, names in quoted.items():
        for name in names:
            counted = [re.search(rf"\b{name} (\d+)/", page[rate]["verdicts (seeds)"]) for page in pages]
            assert sum(int(found[1]) for found in counted if found) == runs, (rate, name)
        assert all("fits best" not in page[rate]["verdicts (seeds)"] for page in pages)
    table = (DEMO / "table.md").read_text(encoding="utf-8")
    written = (DEMO / "seeds.md").read_text(encoding="utf-8")
    counts = re.findall(
        r"highest of the three in (\d) of 5, the lowest in (\d), below the base model's in (\d)", written
    )
    assert [counts[i] for i in (0, 2)] == [("4", "0", "0")] * 2  # drawn without top-k
    assert [(counts[i][0], counts[i][1]) for i in (1, 3)] == [("0", "4")] * 2  # expected with top-k 50
    assert sum(int(counts[i][2]) for i in (1, 3)) == 1
    for page in pages:
        training, held_out = (
            {rate: span(cells[title]) for rate, cells in page.items()} for title in ("training loss", "held-out loss")
        )
        assert training["3e-3"][1] < training["3e-4"][0] and training["3e-4"][1] < training["3e-5"][0]
        assert held_out["3e-5"][1] < held_out["3e-4"][0] and held_out["3e-4"][1] < held_out["3e-3"][0]


def test_the_simulation_that_the_measures_quote_is_the_one_that_was_made():
    found = rows((DEMO / "simulated.md").read_text(encoding="utf-8"))
    text = (ROOT / "evaluate" / "measures" / "README.md").read_text(encoding="utf-8")
    said = re.findall(r"\d+ %", text.split("**How often")[1])
    of = (
        "the ratio holds the truth, 5 texts",
        "the ratio holds the truth, 32",
        "copying holds the truth, 10 texts",
        "3 seeds",
    )
    assert said == [next(cells[-1] for name, cells in found.items() if words in name) for words in of]
    assert [cells[-1] for name, cells in found.items() if "does not move" in name] == ["0 %"] * 3


def test_the_first_block_of_code_runs(capsys):
    code, output = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", top(), re.DOTALL).groups()
    exec(code, {})
    assert capsys.readouterr().out == output


@pytest.mark.skipif(os.name == "nt", reason="on Windows the lines are others")
def test_the_first_lines_work_in_an_empty_environment(tmp_path):
    """As they are written, where python has no torch. Only pip is another: it downloads nothing, but lends the packages
    of these tests."""
    folder = tmp_path / "a folder with blanks"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_COPIED, "tests"))
    lines, said = re.search(r"```sh\n(.*?)```\n.*?\n> (.*?) …", top(), re.DOTALL).groups()
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    pip = f"""
    pip() {{
        if python -c "import torch" 2> nothing.txt; then echo "python had torch before it was installed"; return 1; fi
        test "$1 $2" = "install -r" && test -s "$3"
        python -c "import sysconfig; open(sysconfig.get_path('purelib') + '/lent.pth', 'w').write({packages!r})"
    }}
    """
    path = f"{Path(sys._base_executable).parent}:/usr/bin:/bin"
    environment = {"PATH": path, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["bash", "-ec", pip + lines], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " ".join(done.stdout.split()).startswith(said), done.stdout


def commands() -> list[str]:
    """The lines of all blocks of shell in the texts that a student follows."""
    pages = [ROOT / "README.md", *(ROOT / "tests" / name for name in ("EXERCISES.md", "COURSE.md", "README.md"))]
    blocks = [block for page in pages for block in re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.DOTALL)]
    return [line for block in blocks for line in block.splitlines()][2:]  # the first two install


@pytest.mark.parametrize("line", commands())
def test_no_step_needs_a_shell_and_every_flag_is_there(line, monkeypatch, command, tmp_path):
    """Every line is python's; the command reads its flags and begins, and is ended there."""
    python, option, name, *flags = shlex.split(line, comments=True)
    assert python == "python" and option in ("-m", "-c"), line
    if option == "-c":
        (tmp_path / "runs").mkdir()
        for room in ("data", "model", "train"):
            (tmp_path / room).symlink_to(ROOT / room)
        monkeypatch.chdir(tmp_path)
        exec(name, {})
        assert [file.stat().st_size > 10_000 for file in (tmp_path / "runs").iterdir()] == [True]
    elif name != "pytest":
        began = []
        monkeypatch.setattr(Parser, "errors_in_one_line", lambda parser: began.append(1) or sys.exit())
        package = importlib.util.find_spec(name).submodule_search_locations is not None
        module = importlib.import_module(name + ".__main__" * package)
        assert command(module.main, *flags)[0] == 0 and began


def names_in(folder: Path) -> list[str]:
    """The files that the map of a room names, as paths from it: README.md's first table, and the docstring."""
    found, path = [], r"`([\w./-]+(?:\.\w+|/))`"
    if (folder / "README.md").is_file():
        table = re.search(r"(?:^\|.*\n)+", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)[0]
        found += [name for line in table.splitlines() for name in re.findall(path, line.split("|")[1])]
    if (folder / "__init__.py").is_file():
        docstring = (folder / "__init__.py").read_text(encoding="utf-8").split('"""')[1]
        found += re.findall(r"^([\w.]+\.(?:py|html|css))  +\S", docstring, re.MULTILINE)
    return found


def files_of(folder: Path) -> list[Path]:
    return [
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix in MAPPED and file.name not in ("__init__.py", "README.md") and "__pycache__" not in file.parts
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_the_maps_of_the_rooms_are_complete(room):
    """Every file is named by its own room or by one above it, and every name is a file."""
    top = ROOT / room
    folders = [top, *(path for path in top.rglob("*") if path.is_dir())]
    named = {folder / name for folder in folders for name in names_in(folder)}
    assert not [str(path.relative_to(ROOT)) for path in named if not path.exists()]
    assert not [str(file.relative_to(ROOT)) for file in files_of(top) if file not in named]


def test_the_tests_are_laid_out_as_the_sources_are():
    tests = ROOT / "tests"
    for file in tests.rglob("test_*.py"):
        assert (ROOT / file.parent.relative_to(tests)).is_dir(), file
    rooms = [path for path in tests.rglob("*") if path.is_dir()]
    named = {folder / name for folder in (tests, *rooms) for name in names_in(folder)}
    assert not [str(path.relative_to(tests)) for path in named if not path.exists()]
    for file in files_of(tests):
        covered = file.name.startswith("test_") and tests / file.relative_to(tests).parts[0] in named
        assert covered or file in named, f"no README.md below tests/ names {file.relative_to(tests)}"


def test_links_lead_somewhere():
    rooms = (ROOT / room for room in (*ROOMS, "tests"))
    for readme in [ROOT / "README.md", *(file for room in rooms for file in room.rglob("README.md"))]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", readme.read_text(encoding="utf-8")):
            assert (readme.parent / target).exists(), f"{readme}: {target}"


def test_the_makes_of_the_readme_are_the_makefiles():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    readme = (ROOT / "train" / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"`make (\w+)", readme + top()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize("has_packages", [True, False])
def test_make_uses_the_python_at_hand_if_it_has_the_packages(tmp_path, has_packages):
    """A python that only writes down what it is asked. Once there is a .venv, that is used, and nothing is asked."""
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python3"
    python.write_text(
        f"""#!/bin/sh
        echo "$0 $*" >> asked
        case "$*" in
        *--dry-run*) exit {int(not has_packages)};;
        "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python;;
        esac
        """
    )
    python.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    for _ in range(2):
        subprocess.run(["make", "test"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    asked = (tmp_path / "asked").read_text().replace(f"{tmp_path}/", "").splitlines()
    at_hand, tests = "python3 -m pip install --quiet --dry-run --no-index --requirement requirements.txt", "-m pytest"
    if has_packages:
        assert asked == 2 * [at_hand, f"python3 {tests}"] and not (tmp_path / ".venv").exists()
    else:
        assert asked[0] == at_hand and asked.count(at_hand) == 1
        assert [line.split(" -c ")[0] for line in asked[1:3]] == ["python3", "python3 -m venv .venv"]
        assert asked[3].startswith(".venv/bin/python -m pip install") and asked[4:] == 2 * [f".venv/bin/python {tests}"]


def test_the_course_names_what_is_there():
    """Two pages; files with their lines, exercises, experiments; and no number in an answer that was not measured."""
    page = (ROOT / "tests" / "COURSE.md").read_text(encoding="utf-8")
    assert len(page.split()) <= 1300
    evenings = [line.split("|")[1:-1] for line in re.findall(r"^\| [1-4]\. .*", page, re.MULTILINE)]
    written = [name for cells in evenings for name in re.findall(r"`(\w+)`", cells[1])]
    later = re.search(r"Left for later: (.*?)\.\n", page, re.DOTALL)[1]
    assert written + re.findall(r"`(\w+)`", later) == list(course())
    for cells in evenings:
        files = [(name, int(lines)) for name, lines in re.findall(r"`(\S+\.py)` (\d+)", cells[2])]
        assert all(len((ROOT / name).read_text("utf-8").splitlines()) == lines for name, lines in files), files
        assert f"{sum(lines for _, lines in files) / 8:.0f} min" in cells[2]
    folded = re.findall(r"<summary>\d+\. .*?</details>", page, re.DOTALL)
    sources = [*DEMO.glob("*.md"), *DEMO.parent.glob("*/*.md"), ROOT / "tests" / "exercise" / "outcomes.md"]
    sources += [ROOT / "README.md", ROOT / "evaluate" / "measures" / "README.md"]
    measured = "".join(file.read_text(encoding="utf-8") for file in sources)
    numbers = [number for text in folded for number in re.findall(r"\d+\.\d{3}", text)]
    assert len(folded) == 12 and len(numbers) > 20 and not [number for number in numbers if number not in measured]


def test_what_comes_out_of_the_experiments_was_measured():
    """Every figure that EXERCISES.md says came out is, rounded, in what the code wrote of it, or of experiment 1.

    From the thirteenth on a range over the seeds is the one that the code computed.
    """
    written = outcomes.sections()
    assert [title for title, _, _ in outcomes.experiments()] == list(written)
    first = next(iter(written.values()))
    page = (ROOT / "tests" / "EXERCISES.md").read_text(encoding="utf-8")
    for section in page.split("\n## ")[1:]:
        title, text = section.partition("\n")[::2]
        found = [float(number) for number in re.findall(r"\d+\.\d+", written[title] + first)]
        answer = " ".join(text.split("<summary>What comes out</summary>")[1].split("**Why.**")[0].split())
        said = re.findall(r"\d+\.\d+|\d+,\d{3}", answer)
        assert len(said) >= 2, title
        for number in said:
            digits = len(number.partition(".")[2])
            assert any(f"{value:,.{digits}f}" == number for value in found), (title, number)
        if int(title.split(".")[0]) >= 13:
            for spread in re.findall(r"\d+\.\d+ to \d+\.\d+", answer):
                assert spread in written[title] + first, (title, spread)
