"""A seeded sweep beside a committed copy of its outcome: a change alters a number or a word only where it means to.

UPDATE_GOLDEN=1 python -m pytest tests/test_golden.py    # renews the copy; the diff shows what changed
"""

import hashlib
import json
import os
import re
import sys
from pathlib import Path

import pytest
import torch

from train import sweep

GOLDEN = Path(__file__).with_name("golden")
FLAGS = (
    "--lrs 1e-2 1e-3 1e-4 --samples 24 --batch-size 4 --seq-len 16 --holdout 0.3 --eval-sequences 8 --eval-tokens 12"
)
NUMBER = re.compile(r"-?\d[\d,]*\.?\d*(?:e-?\d+)?")


@pytest.fixture(scope="module")
def outcome(model_folder, text_file, tmp_path_factory):
    """The files of the sweep, {name: text}: results, table and page, without times (the last column is minutes), paths and versions."""
    folder = tmp_path_factory.mktemp("golden") / "sweep"
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        command = ["sweep", "--model", model_folder, "--text", text_file, "--general-text", text_file, "--out", folder]
        patch.setattr(sys, "argv", [*map(str, command), "--dtype", "float32", *FLAGS.split()])
        torch.set_num_threads(1)
        try:
            sweep.main()
        finally:
            torch.set_num_threads(threads)
    found = {f"{run.name}.json": result_as_text(run) for run in sorted(folder.glob("lr-*"))}
    table = (folder / "table.md").read_text(encoding="utf-8")
    found["table.md"] = re.sub(r"\| [\d.–]+ \|$", "|", table.replace(model_folder.name, "MODEL"), flags=re.MULTILINE)
    found["page.txt"] = page_as_text(folder / "report.html").replace(model_folder.name, "MODEL")
    return found


def result_as_text(run: Path) -> str:
    """`result.json` with its lists of texts and shares as digests; they are exact or another token was drawn."""
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    for name in ("environment", "identity", "settings", "sha256"):
        del result[name]

    def short(value: object, name: str = "") -> object:
        if name == "seconds":
            return None
        if isinstance(value, dict):
            return {key: short(inner, key) for key, inner in value.items()}
        if name in ("texts", "shares", "copied_shares", "continuations", "prompts"):
            return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
        if isinstance(value, list):
            return [short(inner) for inner in value]
        return round(value, 5) if isinstance(value, float) else value

    return json.dumps(short(result), indent=1, ensure_ascii=False) + "\n"


def page_as_text(page: Path) -> str:
    """What the page says up to how it was made, a line for each piece of text."""
    html = re.sub(r'<td data-label="minutes">[^<]*', "", page.read_text(encoding="utf-8"))
    body = html.split("<body>")[1].split('<details id="')
    body = '<details id="'.join(part for part in body if not part.startswith(("making", "provenance")))
    return "\n".join(" ".join(line.split()) for line in re.sub(r"<[^>]*>", "\n", body).splitlines() if line.strip())


@pytest.mark.parametrize("name", ["lr-1e-2.json", "lr-1e-3.json", "lr-1e-4.json", "table.md", "page.txt"])
def test_a_seeded_sweep_is_as_it_was(outcome, name):
    """Words are equal; numbers agree within what processors round differently."""
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        (GOLDEN / name).write_text(outcome[name], encoding="utf-8")
    expected = (GOLDEN / name).read_text(encoding="utf-8")
    for was, found in zip(expected.splitlines(), outcome[name].splitlines()):
        assert NUMBER.sub("#", found) == NUMBER.sub("#", was)
        numbers = [[float(n.replace(",", "")) for n in NUMBER.findall(line)] for line in (found, was)]
        assert numbers[0] == pytest.approx(numbers[1], rel=2e-3, abs=2e-3), (found, was)
    assert outcome[name].count("\n") == expected.count("\n")
