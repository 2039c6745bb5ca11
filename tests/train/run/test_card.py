"""The card of a run's model: its head, its figures, and how a folder is published."""

import copy
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import train.__main__ as train_command
from evaluate.results import read_result, runs_of
from evaluate.table import table
from train.run.card import model_card


@pytest.fixture
def run(trained, small_run, tmp_path):
    trained("run", "--lr", "1e-3")
    return tmp_path / "run", (*small_run, "--lr", "1e-3", "--out", tmp_path / "run")


def test_a_run_folder_has_a_card(run):
    folder, _ = run
    result, card = read_result(folder), ModelCard.load(folder / "README.md")
    assert card.data.library_name == "transformers" and card.data.pipeline_tag == "text-generation"
    # Nothing is known of somebody's model and somebody's text, and nothing is claimed.
    assert card.data.license == "unknown" and card.data.base_model is None and card.data.language is None
    assert "licence is not known" in card.text and "whose it is" in card.text and "No right in that text" in card.text
    row = next(line for line in table(runs_of([result])).splitlines() if line.startswith("| 1e-3 |"))
    assert row in card.text and result["settings"]["model_identity"]["sha256"] in card.text
    continuation = "".join(result["after"]["continuations"][0]["pieces"])
    quoted = "\n".join(line[2:] for line in card.text.splitlines() if line.startswith("> "))
    assert quoted.split() == (result["prompts"][0] + continuation).split()


def test_openais_model_and_swifts_book_are_named(run):
    result = copy.deepcopy(read_result(run[0]))
    found = {"repository": "openai-community/gpt2", "revision": "607a"}
    identity = {"name": "gpt2", "parameters": 124, "sha256": "0f"} | found
    result["settings"] |= {"model_name": "gpt2", "model_identity": identity}
    result["settings"] |= {"text": "gulliver", "text_name": "gulliver"}
    result["prompts"] = []
    card = ModelCard(model_card(result))
    assert card.data.license == "mit" and card.data.base_model == "openai-community/gpt2" and card.data.language == "en"
    assert "revision `607a`" in card.text and "Jonathan Swift" in card.text and "> " not in card.text


def test_the_levers_are_named(run):
    result = copy.deepcopy(read_result(run[0]))
    assert "| training | AdamW at 1e-3, weight decay 0.01; " in model_card(result)
    result["settings"] |= {"schedule": "linear", "warmup": 20, "train": "last:2", "leash": 2.0, "clip": 1.0}
    levers = "linear schedule, warm-up 20, last 2 blocks, leash 2, clip 1"
    assert f" tokens, {levers}, seed 0. These are" in model_card(result)


@pytest.mark.parametrize("repository", ["someone/gpt2", None])
def test_who_calls_a_model_gpt2_is_not_openai(run, repository):
    result = copy.deepcopy(read_result(run[0]))
    result["settings"]["model_name"] = "gpt2"
    result["settings"]["model_identity"] |= {"repository": repository, "revision": "607a"} if repository else {}
    card = ModelCard(model_card(result))
    assert card.data.license == "unknown" and card.data.base_model == repository
    assert "OpenAI" not in card.text and "its licence is not known here" in card.text


def test_without_a_model_there_is_no_card(run, command):
    folder, arguments = run
    assert command(train_command.main, *arguments, "--overwrite")[0] == 0 and (folder / "README.md").is_file()
    assert command(train_command.main, *arguments, "--overwrite", "--no-save-model")[0] == 0
    assert not (folder / "README.md").exists() and (folder / "result.json").is_file()


def test_a_run_is_never_lost_to_its_card(run, command, monkeypatch):
    """The card is made when the result is on the disk, and what goes wrong with it is a note."""
    folder, arguments = run

    def fails(result, best):
        assert read_result(folder) == json.loads(json.dumps(result))
        raise ImportError("a library's\nname")

    monkeypatch.setattr("train.run.outcome.model_card", fails)
    code, printed, err = command(train_command.main, *arguments, "--overwrite")
    note = f"(ImportError: a library's name); the model and its result are in {folder}"
    assert code == 0 and err == "" and f"note: the model's card could not be made {note}" in printed.splitlines()
    assert not (folder / "README.md").exists() and (folder / "model.safetensors").is_file()
    code, printed, _ = command(train_command.main, *arguments)
    assert code == 0 and "finished already" in printed


def test_a_folder_is_published_by_the_hubs_own_command(run, tmp_path):
    """`hf upload`, as train/README.md has it, against a server of our own."""
    sent, port = {}, 0

    class Hub(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            body = b""
            if self.headers["Transfer-Encoding"] == "chunked":
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            here = f"http://127.0.0.1:{port}/me/islands"
            said = {"url": here, "errors": [], "warnings": [], "commitUrl": f"{here}/commit/1", "commitOid": "1"}
            if "preupload" in self.path:
                names = [file["path"] for file in json.loads(body)["files"]]
                said["files"] = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            if "/commit/" in self.path:
                lines = map(json.loads, body.splitlines())
                sent.update({line["value"]["path"]: self.path for line in lines if line["key"] == "file"})
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        do_GET = do_POST

    server = HTTPServer(("127.0.0.1", 0), Hub)
    port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_TOKEN": "hf_x", "HF_HOME": str(tmp_path / "hf")}
    command = [Path(sys.executable).with_name("hf"), "upload", "me/islands", run[0], "--private"]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    server.shutdown()
    server.server_close()
    assert done.returncode == 0, done.stderr
    names = ["README.md", "config.json", "merges.txt", "model.safetensors", "result.json", "vocab.json"]
    assert sorted(sent) == names and set(sent.values()) == {"/api/models/me/islands/commit/main"}
