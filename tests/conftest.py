"""What the tests run on: small data that they make themselves, the same every time."""

import json
import os
import random
import sys
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two threads are slower on models this small
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # before torch too: no GPU, unless one is named

import numpy as np
import pytest
from safetensors.numpy import save_file

import train.__main__ as train_command
from data.tokenizer import save_tokenizer
from evaluate.results import read_result
from train.pretrain.bpe import count_words, train_bpe
from train.run.checkpoint import Checkpointer

VOCAB, BLOCK, LAYERS, HEADS, WIDTH = 300, 24, 2, 3, 12


@pytest.fixture(autouse=True)
def no_network_and_no_home(monkeypatch, tmp_path):
    """Caches go to the test's own folder, and a forgotten download meets a closed port instead of the world."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def make_text(words: int, seed: int = 5) -> str:
    """English-looking text with a fixed grammar, so that a tiny model can learn something from it."""
    rng = random.Random(seed)
    subjects = ["the captain", "my master", "an old sailor", "the king", "a small man", "her majesty"]
    verbs = ["saw", "measured", "praised", "feared", "described", "sold"]
    objects = ["the island", "a ship", "three ropes", "the harbour", "his enemies", "a barrel of beef"]
    sentences = []
    while sum(len(s.split()) for s in sentences) < words:
        sentences.append(f"{rng.choice(subjects)} {rng.choice(verbs)} {rng.choice(objects)};")
    lines = [" ".join(sentences[i : i + 4]) for i in range(0, len(sentences), 4)]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder, train_bpe(count_words([make_text(3000)]), VOCAB))
    return folder


@pytest.fixture(scope="session")
def official_weights() -> dict[str, np.ndarray]:
    """Every tensor of a small GPT-2 as in OpenAI's file, float64, all of them far from their initial values.

    With gains of 1 and biases of 0 a model that ignores them would pass, and with small weights the
    erf-GELU would be as good as the tanh one.
    """
    rng = np.random.default_rng(11)
    shapes = {"wte.weight": (VOCAB, WIDTH), "wpe.weight": (BLOCK, WIDTH)}
    shapes |= {"ln_f.weight": (WIDTH,), "ln_f.bias": (WIDTH,)}
    for i in range(LAYERS):
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"h.{i}.{norm}.weight": (WIDTH,), f"h.{i}.{norm}.bias": (WIDTH,)}
        for name, (inputs, outputs) in {
            "attn.c_attn": (WIDTH, 3 * WIDTH),
            "attn.c_proj": (WIDTH, WIDTH),
            "mlp.c_fc": (WIDTH, 4 * WIDTH),
            "mlp.c_proj": (4 * WIDTH, WIDTH),
        }.items():
            shapes |= {f"h.{i}.{name}.weight": (inputs, outputs), f"h.{i}.{name}.bias": (outputs,)}
    return {
        name: rng.normal(1.0 if name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight")) else 0.0, 0.4, shape)
        for name, shape in shapes.items()
    }


CONFIG = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1,
    "bos_token_id": VOCAB - 1,
    "embd_pdrop": 0.1,
    "eos_token_id": VOCAB - 1,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "n_ctx": BLOCK,
    "n_embd": WIDTH,
    "n_head": HEADS,
    "n_layer": LAYERS,
    "n_positions": BLOCK,
    "resid_pdrop": 0.1,
    "vocab_size": VOCAB,
}


def write_model(folder: Path, tensors: dict[str, np.ndarray], tokenizer_folder: Path, **config) -> Path:
    """A model folder with exactly these tensors, whatever they are."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config), encoding="utf-8")
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_bytes((tokenizer_folder / name).read_bytes())
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def official_file(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`weights` in float32 with the causal masks, as OpenAI's file has them."""
    mask = np.tril(np.ones((1, 1, BLOCK, BLOCK), dtype=np.float32))
    return {name: w.astype(np.float32) for name, w in weights.items()} | {
        f"h.{i}.attn.bias": mask for i in range(LAYERS)
    }


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, official_weights, tokenizer_folder) -> Path:
    """A whole model in the official layout."""
    return write_model(tmp_path_factory.mktemp("model"), official_file(official_weights), tokenizer_folder)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("text") / "islands.txt"
    # The rare letters make it more than 100 kinds of token: not all of them are among the most frequent.
    file.write_text(make_text(2000, seed=6) + "".join(map(chr, range(0x100, 0x180))) + "\n", encoding="utf-8")
    return file


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs one of the project's commands in this process: `command(main, *arguments)` to (exit code, out, err)."""

    def call(main, *arguments):
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as exit:
            code = exit.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def refused(command):
    """Runs a command that must end with one line and exit code 2: `refused(main, *arguments)` returns the line."""

    def call(main, *arguments):
        code, _, err = command(main, *arguments)
        assert code == 2 and err.startswith("error: ") and err.count("\n") == 1, err
        return err

    return call


@pytest.fixture(scope="session")
def small_run(model_folder, text_file):
    """The flags of a run of a second or two; a flag that is given again after them counts."""
    flags = ("--batch-size", 4, "--seq-len", 16, "--samples", 4, "--eval-sequences", 6, "--eval-tokens", 8)
    return ("--model", model_folder, "--text", text_file, *flags)


@contextmanager
def stopping_after(steps: int):
    """Inside, a run saves its checkpoint after this many steps and ends as by Ctrl-C."""
    save = Checkpointer.save

    def saves_and_stops(keeper, history):
        save(keeper, history)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Checkpointer, "due", lambda keeper, ended: keeper.optimizer.steps == steps)
        patched.setattr(Checkpointer, "save", saves_and_stops)
        yield


def without_seconds(folder: Path) -> dict:
    """The result in `folder`, without what differs between two equal runs."""
    result = read_result(folder)
    result["environment"].pop("seconds")
    for part in (result["settings"], result["before"], result["after"] or {}, result["best"] or {}):
        part.pop("out", None)
        part.pop("seconds", None)
    return result


@pytest.fixture
def trained(command, small_run, tmp_path):
    """Trains into a folder of `tmp_path`: `trained(name, *flags)` returns the run's result."""

    def call(name, *flags):
        code, _, err = command(train_command.main, *small_run, *flags, "--out", tmp_path / name)
        assert code == 0, err
        return read_result(tmp_path / name)

    return call
