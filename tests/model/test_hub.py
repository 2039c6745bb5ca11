"""Fetching a model: against a server on this machine that speaks the hub's language, and a cache that it filled."""

import hashlib
import json
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.numpy import load_file, save_file

import model.hub as hub
from model.hub import MODEL_FILES, file_sha256, verify_once
from model.pretrained import load_pretrained

REVISION = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
NOWHERE = "http://127.0.0.1:9"  # no server answers there


@pytest.fixture
def shelf(model_folder) -> dict:
    """What the server serves: the folder of each repository."""
    return {"openai-community/gpt2": model_folder}


@pytest.fixture
def server(shelf):
    """(address, log of requests): a hub with `shelf`, on which `main` is the pinned commit and v2 another."""
    log = []

    class Hub(BaseHTTPRequestHandler):
        def answer(self):
            log.append(f"{self.command} {self.path}")
            asked = re.fullmatch(
                "/(api/models/)?(?P<repository>[^/]+/[^/]+)/(?P<what>resolve|revision|tree)/(?P<revision>[^/?]+)"
                "(/(?P<name>[^?]*))?([?].*)?",
                self.path,
            )
            folder = shelf.get(asked["repository"])
            commit = {REVISION: REVISION, "main": REVISION, "v2": "2" * 40, "2" * 40: "2" * 40}[asked["revision"]]
            headers = {"X-Repo-Commit": commit}
            if folder is None or asked["what"] == "resolve" and not (folder / asked["name"]).is_file():
                code, content = 404, b""
                headers["X-Error-Code"] = "EntryNotFound" if folder else "RepoNotFound"
            elif asked["what"] == "resolve":
                code, content = 200, (folder / asked["name"]).read_bytes()
                headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            elif asked["what"] == "revision":
                code, content = 200, json.dumps({"id": asked["repository"], "sha": commit}).encode()
            else:
                rows = [{"type": "file", "path": f.name, "oid": "", "size": f.stat().st_size} for f in folder.iterdir()]
                code, content = 200, json.dumps(rows).encode()
            self.send_response(code)
            for header in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(*header)
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
    monkeypatch.setitem(hub.HUB, "gpt2", hub.Source("openai-community/gpt2", REVISION, sha256))


def sha256_of(folder) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_the_official_revision_and_checksum_are_pinned():
    sha256 = "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707"
    assert hub.HUB["gpt2"] == ("openai-community/gpt2", REVISION, sha256)


def test_fetched_once_then_from_the_cache_without_a_connection(server, model_folder, tmp_path, monkeypatch):
    address, log = server
    pin(monkeypatch, sha256_of(model_folder))
    folder = hub.model_folder("gpt2", endpoint=address, cache=tmp_path / "hub")
    for name in MODEL_FILES:
        assert (folder / name).read_bytes() == (model_folder / name).read_bytes()
    assert sum(line.startswith("GET") and "/resolve/" in line for line in log) == len(MODEL_FILES)
    log.clear()
    assert hub.model_folder("gpt2", endpoint=NOWHERE, cache=tmp_path / "hub") == folder
    assert not log
    for ours, theirs in zip(load_pretrained(folder).parameters(), load_pretrained(model_folder).parameters()):
        assert torch.equal(ours, theirs)


def test_other_weights_than_the_official_ones_are_refused(server, tmp_path, monkeypatch):
    address, _ = server
    with pytest.raises(ValueError, match="model.safetensors is damaged: its sha256 is .*, not 248dfc39.*; delete"):
        hub.model_folder("gpt2", endpoint=address, cache=tmp_path / "hub")


def test_the_hubs_own_checksum_is_used_where_none_is_pinned(server, model_folder, tmp_path, monkeypatch):
    address, _ = server
    pin(monkeypatch, None)
    folder = hub.model_folder("gpt2", endpoint=address, cache=tmp_path / "hub")
    weights = (folder / "model.safetensors").resolve()
    assert weights.name == sha256_of(model_folder)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        hub.model_folder("gpt2", endpoint=address, cache=tmp_path / "hub")


def test_any_model_of_the_hub_by_its_name_and_revision(server, shelf, model_folder, tmp_path):
    """With its revision recorded; then from the cache without a connection."""
    address, log = server
    shelf["someone/tales"] = model_folder
    where = {"cache": tmp_path / "hub"}
    for name, commit in (("someone/tales", REVISION), ("someone/tales@v2", "2" * 40)):
        folder = hub.model_folder(name, endpoint=address, **where)
        assert folder.name == commit and file_sha256(folder / "model.safetensors") == sha256_of(model_folder)
        log.clear()
        assert hub.model_folder(name, endpoint=NOWHERE, **where) == folder and not log
    assert hub.source_of("someone/tales@v2") == ("someone/tales", "v2", None)


def test_what_the_hub_does_not_have(server, shelf, tmp_path, model_folder):
    address, _ = server
    where = {"endpoint": address, "cache": tmp_path / "hub"}
    with pytest.raises(ConnectionError, match="^no/where is no folder, not in the cache and could not be fetched"):
        hub.model_folder("no/where", **where)
    shelf["someone/pickled"] = shutil.copytree(model_folder, tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    shelf["someone/adapter"] = tmp_path / "adapter"
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="^someone/adapter is a LoRA adapter; merge it into its base model first"):
        hub.model_folder("someone/adapter", **where)
    with pytest.raises(FileNotFoundError, match="someone/pickled on the hub lacks model.safetensors.* a pickle"):
        hub.model_folder("someone/pickled", **where)


def test_in_shards_and_with_one_tokenizer_file(server, shelf, model_folder, tmp_path):
    """As the hub's library writes large models today."""
    address, log = server
    shelf["someone/large"] = folder = tmp_path / "large"
    in_shards(model_folder, folder)
    (folder / "config.json").write_bytes((model_folder / "config.json").read_bytes())
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    for address in (address, NOWHERE):
        fetched = hub.model_folder("someone/large", endpoint=address, cache=tmp_path / "hub")
        names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
        assert [file.name for file in hub.weight_files(fetched)] == names
        assert (fetched / "tokenizer.json").read_text(encoding="utf-8") == "{}"
        for ours, theirs in zip(load_pretrained(fetched).parameters(), load_pretrained(model_folder).parameters()):
            assert torch.equal(ours, theirs)
    (fetched / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ConnectionError):
        hub.model_folder("someone/large", endpoint=NOWHERE, cache=tmp_path / "hub")


def in_shards(model_folder, folder) -> None:
    """The weights of `model_folder` in two files, as those of a large model."""
    tensors = list(load_file(model_folder / "model.safetensors").items())
    parts = {f"model-0000{2 - i}-of-00002.safetensors": dict(tensors[i::2]) for i in range(2)}
    folder.mkdir()
    for name, part in parts.items():
        save_file(part, folder / name)
    index = {"metadata": {}, "weight_map": {tensor: name for name, part in parts.items() for tensor in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


@pytest.mark.parametrize(
    ("index", "complaint"),
    [
        ("{", "is damaged"),
        ("[" * 100_000, "is damaged"),
        ('{"weight_map": []}', "is damaged"),
        ('{"weight_map": {}}', "names no file of this folder"),
        ('{"weight_map": {"wte.weight": "../../secret"}}', "names no file of this folder"),
        ('{"weight_map": {"wte.weight": "lost.safetensors"}}', "has no lost.safetensors"),
    ],
)
def test_a_list_of_shards_that_is_none(tmp_path, index, complaint):
    (tmp_path / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    with pytest.raises((ValueError, FileNotFoundError), match=complaint):
        hub.weight_files(tmp_path)


@pytest.mark.parametrize("repository", ["openai-community/gpt2", "gpt2"])
def test_what_another_program_has_cached_is_found(repository, model_folder, tmp_path, monkeypatch):
    """At whatever commit `main` was then, and under the name without an owner that the models once had."""
    pin(monkeypatch, sha256_of(model_folder))
    place = tmp_path / f"models--{repository.replace('/', '--')}"
    shutil.copytree(model_folder, place / "snapshots" / ("1" * 40))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("1" * 40, encoding="utf-8")
    assert hub.model_folder("gpt2", endpoint=NOWHERE, cache=tmp_path).name == "1" * 40


def test_a_folder_goes_before_the_hub(model_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_folder, tmp_path / "runs" / "mine")
    assert hub.model_folder("runs/mine") == Path("runs/mine") and hub.source_of("runs/mine") is None
    assert hub.source_of(tmp_path) is None and hub.source_of("lilliput") is None and hub.source_of("a/b/c") is None


def test_a_proxy_that_wants_one_more_package(tmp_path, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY")
    huggingface_hub.close_session()
    try:
        with pytest.raises(ConnectionError, match="gpt2 is not in the cache and could not be fetched .*SOCKS.*package"):
            hub.model_folder("gpt2", endpoint=NOWHERE, cache=tmp_path)
    finally:
        huggingface_hub.close_session()  # it is kept, and the proxy in it


def test_each_name_is_its_own_repository(tmp_path):
    for name in hub.HUB:
        with pytest.raises(ConnectionError, match=f"^{name} is not in the cache .*name their folder"):
            hub.model_folder(name, endpoint=NOWHERE, cache=tmp_path)


def test_without_a_network_the_download_is_not_even_tried(tmp_path, monkeypatch):
    """It would try again and again for half a minute."""
    original, asked = huggingface_hub.snapshot_download, []

    def note(*arguments, **options):
        asked.append(options.get("local_files_only"))
        assert asked[-1]
        return original(*arguments, **options)

    monkeypatch.setattr("huggingface_hub.snapshot_download", note)
    with pytest.raises(ConnectionError):
        hub.model_folder("gpt2-xl", endpoint=NOWHERE, cache=tmp_path)
    assert len(asked) == 3


def test_an_interrupted_download_is_continued(server, model_folder, tmp_path, monkeypatch):
    address, _ = server
    pin(monkeypatch, sha256_of(model_folder))
    folder = hub.model_folder("gpt2", endpoint=address, cache=tmp_path / "hub")
    for lost in MODEL_FILES:
        (folder / lost).unlink()
        assert hub.model_folder("gpt2", endpoint=address, cache=tmp_path / "hub") == folder
        assert (folder / lost).is_file()


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
