"""Fetching a model: against a server on this machine that speaks the hub's language, and a cache that it filled."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
import torch

import model.hub as hub
from model import load_pretrained
from model.hub import MODEL_FILES, fetch, verify_once

REVISION = "607a30d783dfa663caf39e06633721c8d4cfcd7e"


@pytest.fixture
def server(model_folder):
    """(address, log of requests): serves `model_folder` as openai-community/gpt2 at the pinned revision."""
    log = []

    class Hub(BaseHTTPRequestHandler):
        def answer(self):
            log.append(f"{self.command} {self.path}")
            prefix = f"/openai-community/gpt2/resolve/{REVISION}/"
            file = model_folder / self.path.removeprefix(prefix)
            if not self.path.startswith(prefix) or not file.is_file():
                self.send_error(404)
                return b""
            content = file.read_bytes()
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return content

        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.wfile.write(self.answer())

        def log_message(self, *args):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}", log
    httpd.shutdown()
    httpd.server_close()


def pin(monkeypatch, sha256: str) -> None:
    monkeypatch.setitem(hub.HUB, "gpt2", ("openai-community/gpt2", REVISION, sha256))


def sha256_of(folder) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_the_official_revision_and_checksum_are_pinned():
    assert hub.HUB["gpt2"] == (
        "openai-community/gpt2",
        REVISION,
        "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
    )


def test_fetched_once_then_from_the_cache_without_a_connection(server, model_folder, tmp_path, monkeypatch):
    address, log = server
    pin(monkeypatch, sha256_of(model_folder))
    folder = fetch("gpt2", endpoint=address, cache=tmp_path / "hub")
    for name in MODEL_FILES:
        assert (folder / name).read_bytes() == (model_folder / name).read_bytes()
    assert sum(line.startswith("GET") for line in log) == len(MODEL_FILES)
    log.clear()
    assert fetch("gpt2", endpoint="http://127.0.0.1:9", cache=tmp_path / "hub") == folder
    assert not log
    for ours, theirs in zip(load_pretrained(folder).parameters(), load_pretrained(model_folder).parameters()):
        assert torch.equal(ours, theirs)


def test_other_weights_than_the_official_ones_are_refused(server, tmp_path, monkeypatch):
    address, _ = server
    with pytest.raises(ValueError, match="model.safetensors is damaged: its sha256 is .*, not 248dfc39.*; delete"):
        fetch("gpt2", endpoint=address, cache=tmp_path / "hub")


def test_the_hubs_own_checksum_is_used_where_none_is_pinned(server, model_folder, tmp_path, monkeypatch):
    address, _ = server
    pin(monkeypatch, None)
    folder = fetch("gpt2", endpoint=address, cache=tmp_path / "hub")
    weights = (folder / "model.safetensors").resolve()
    assert weights.name == sha256_of(model_folder)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        fetch("gpt2", endpoint=address, cache=tmp_path / "hub")


def test_no_network_and_nothing_cached(tmp_path):
    with pytest.raises(ConnectionError, match="gpt2-xl is not in the cache .*--model FOLDER"):
        fetch("gpt2-xl", endpoint="http://127.0.0.1:9", cache=tmp_path / "hub")


def test_each_name_is_its_own_repository(tmp_path):
    for name in hub.HUB:
        with pytest.raises(ConnectionError, match=f"^{name} is not in the cache"):
            hub.model_folder(name, endpoint="http://127.0.0.1:9", cache=tmp_path)


def test_without_a_network_the_download_is_not_even_tried(tmp_path, monkeypatch):
    """It would try again and again for half a minute."""
    original, asked = huggingface_hub.hf_hub_download, []

    def note(*arguments, **options):
        asked.append(options.get("local_files_only"))
        assert asked == [True]
        return original(*arguments, **options)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", note)
    with pytest.raises(ConnectionError):
        fetch("gpt2-xl", endpoint="http://127.0.0.1:9", cache=tmp_path)
    assert asked == [True]


def test_verified_once_and_again_when_the_file_changed(tmp_path, monkeypatch):
    file, stamps = tmp_path / "weights", tmp_path / "stamps"
    file.write_bytes(b"abc")
    right = hashlib.sha256(b"abc").hexdigest()
    read = []
    original = hub.file_sha256
    monkeypatch.setattr(hub, "file_sha256", lambda path: read.append(path) or original(path))
    for _ in range(3):
        verify_once(file, right, stamps)
    assert len(read) == 1
    file.write_bytes(b"abcd")
    with pytest.raises(ValueError, match="is damaged"):
        verify_once(file, right, stamps)
    assert len(read) == 2
