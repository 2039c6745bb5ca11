"""The notebook: its cells run, and what is stored in it was made by them and by the figures as they are now."""

import base64
import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from evaluate.results import CLOCK_FILE
from tests.notebook import NOTEBOOK, code_cells, made_of, run

STORED = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
PNG = b"\x89PNG"


def pictures(notebook: dict) -> list[bytes]:
    found = [output.get("data", {}).get("image/png") for cell in code_cells(notebook) for output in cell["outputs"]]
    return [base64.b64decode(png) for png in found if png]


def test_the_cells_run(tmp_path, monkeypatch, model_folder, text_file):
    """In a few steps of a smaller model, those for a GPU too."""
    small, count = copy.deepcopy(STORED), 0
    monkeypatch.setattr(sys, "path", [*sys.path])
    few = {"torch.cuda.is_available()": "True", 'device="cuda"': 'model="lilliput", text="voyage", device="cpu"'}
    few |= {"samples=50": "samples=50, seq_len=16", "seq_len=128": "seq_len=16"}
    few |= {'"lilliput"': repr(str(model_folder)), '"voyage"': repr(str(text_file))}
    for cell in code_cells(small):
        text = "".join(cell["source"])
        for old, new in few.items():
            text = text.replace(old, new)
        text, changed = re.subn(r"\b(samples|sequences|new_tokens)=\d+", lambda match: f"{match[1]}=4", text)
        cell["source"], count = [text], count + changed
    assert count == 9
    run(small, tmp_path / "project")
    assert (tmp_path / "project" / "runs" / "notebook" / CLOCK_FILE).is_file()
    assert all(picture.startswith(PNG) for picture in pictures(small))
    assert len(pictures(small)) == len(pictures(STORED)) + 1  # the GPU's


def fetch(folder: Path, monkeypatch, project: str = "") -> list[list[str]]:
    """Run the first cell in `folder`; returns the commands that it starts."""
    commands = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(folder)
    exec("".join(code_cells(STORED)[0]["source"]).replace('PROJECT = ""', f"PROJECT = {project!r}"), {})
    return commands


def test_the_first_cell_fetches_the_project(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="^put the project's address into PROJECT.*$"):
        fetch(tmp_path, monkeypatch)
    (tmp_path / "gulliver").mkdir()
    monkeypatch.setattr(Path, "is_dir", lambda folder: False)
    clone, install = fetch(tmp_path, monkeypatch, "an address")
    assert clone == ["git", "clone", "an address", "gulliver"]
    assert install == [sys.executable, "-m", "pip", "install", "-q", "-r", "requirements.txt"]
    monkeypatch.undo()
    assert fetch(tmp_path, monkeypatch) == [install]  # its folder is there already


def test_in_the_project_the_first_cell_fetches_nothing(tmp_path, monkeypatch):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "experiment.py").touch()
    for started_in in (tmp_path, tmp_path / "train"):
        assert not fetch(started_in, monkeypatch) and Path.cwd() == tmp_path and sys.path[0] == str(tmp_path)


def test_the_stored_notebook_was_run_from_its_first_cell_to_its_last():
    assert (STORED["nbformat"], STORED["nbformat_minor"]) == (4, 5) and NOTEBOOK.stat().st_size < 500_000
    kinds = [cell["cell_type"] for cell in STORED["cells"]]
    assert kinds == ["markdown", "code"] * (len(kinds) // 2) + ["markdown"]
    ids = [cell["id"] for cell in STORED["cells"]]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[\w-]{1,64}", name) for name in ids)
    common = {"cell_type", "id", "metadata", "source"}
    for cell in STORED["cells"]:
        assert cell.keys() == common | ({"execution_count", "outputs"} if cell["cell_type"] == "code" else set())
        assert all(isinstance(line, str) for line in cell["source"])
    assert [cell["execution_count"] for cell in code_cells(STORED)] == [*range(1, kinds.count("code") + 1)]
    for cell in code_cells(STORED):
        for output in cell["outputs"]:
            keys = {"stream": {"name", "text"}, "execute_result": {"data", "execution_count", "metadata"}}
            assert output.keys() == keys[output["output_type"]] | {"output_type"}  # none is an error
            assert output.get("execution_count", cell["execution_count"]) == cell["execution_count"]
    assert len(pictures(STORED)) == 3 and "Traceback" not in json.dumps(STORED)


def test_the_stored_outputs_belong_to_the_code():
    """Red: `python -m tests.notebook` runs the notebook again."""
    assert STORED["metadata"]["made_of"] == made_of(STORED)


def test_a_change_of_the_figures_or_the_cells_is_noticed(monkeypatch):
    before = made_of(STORED)
    monkeypatch.setattr("evaluate.report.plots.GREY", "#555556")
    changed = copy.deepcopy(STORED)
    code_cells(changed)[-1]["source"][0] += " "
    after = made_of(changed)
    assert before["drawn"] != after["drawn"] and before["cells"] != after["cells"]
