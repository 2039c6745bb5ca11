"""Many odd files and flags: each is read, or refused in one line."""

import contextlib
import json
import re
import shutil

import numpy as np
import pytest
import torch

import evaluate.__main__
import evaluate.plot
import evaluate.rate.__main__
import evaluate.report.__main__
import model.__main__
import train.__main__
import train.pretrain.__main__
import train.sweep
import train.verify.__main__
from evaluate.results import read_result, write_result
from model.pretrained import load_pretrained, read_config
from tests.evaluate.handmade import result_of
from train.run.checkpoint import load_checkpoint, save_checkpoint

INPUTS = 100  # of every file

ODD = (None, True, -1, 0, 1e308, 10**30, "", "x", "\x00", [], [[]], {}, {"x": None}, float("nan"))


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """`content` with a piece removed, reversed, repeated or replaced, near the start (headers) or anywhere."""
    end = min(len(content), int(random.choice([20, 2000, len(content)])))
    first, last = sorted(random.integers(end + 1, size=2).tolist())
    piece = content[first:last]
    return random.choice(
        [
            content[:first],
            content[:first] + content[last:],
            content[:first] + piece[::-1] + content[last:],
            content[:last] + piece + content[last:],
            content[:first] + random.bytes(1 + len(piece) % 9) + content[first + 1 :],
            content[:first] + bytes(last - first) + content[last:],
        ]
    )


def with_odd_value(content: dict, random: np.random.Generator) -> bytes:
    """`content` as JSON with one of its values, at any depth, replaced by an odd one."""
    changed = place = json.loads(json.dumps(content))
    while True:
        key = random.choice(list(place)) if isinstance(place, dict) else int(random.integers(len(place)))
        if not (isinstance(place[key], dict | list) and place[key]) or random.random() < 0.2:
            break
        place = place[key]
    place[key] = ODD[random.integers(len(ODD))]
    return json.dumps(changed).encode()


def damaged_json(whole: bytes, random: np.random.Generator) -> list[bytes]:
    return [damaged(whole, random) for _ in range(INPUTS)] + [
        with_odd_value(json.loads(whole), random) for _ in range(INPUTS)
    ]


def canonical(content: bytes) -> str | bytes:
    """The same for the same JSON in any layout."""
    try:
        return json.dumps(json.loads(content), sort_keys=True)
    except ValueError:
        return content


def read_or_refused_in_one_line(file, contents, read) -> int:
    """Writes each of `contents` to `file` and calls `read`; returns how many were refused."""
    refused = 0
    for content in contents:
        file.write_bytes(content)
        try:
            read()
        except (ValueError, OSError) as error:
            refused += 1
            assert str(error) and "\n" not in str(error), content[:2000]
    return refused


def test_any_result(tmp_path):
    result, random = result_of(), np.random.default_rng(0)
    write_result(tmp_path, result)
    file = tmp_path / "result.json"
    whole = file.read_bytes()
    inputs = damaged_json(whole, random)
    refused = read_or_refused_in_one_line(file, inputs, lambda: read_result(tmp_path))
    assert refused == sum(canonical(content) != canonical(whole) for content in inputs) > INPUTS


def test_any_state(tmp_path):
    file, random = tmp_path / "checkpoint.safetensors", np.random.default_rng(1)
    save_checkpoint(file, {"weight": torch.arange(400.0)}, {"steps": 3, "record": {"train_loss": [4.0, 3.0]}})
    whole = file.read_bytes()
    inputs = [damaged(whole, random) for _ in range(2 * INPUTS)]
    assert read_or_refused_in_one_line(file, inputs, lambda: load_checkpoint(file)) > INPUTS


def test_any_config(tmp_path, model_folder):
    whole, random = (model_folder / "config.json").read_bytes(), np.random.default_rng(2)
    file = tmp_path / "config.json"
    assert read_or_refused_in_one_line(file, damaged_json(whole, random), lambda: read_config(file)) > INPUTS


def test_any_weights(tmp_path, model_folder):
    folder, random = shutil.copytree(model_folder, tmp_path / "model"), np.random.default_rng(3)
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    inputs = [damaged(whole, random) for _ in range(INPUTS)]
    assert read_or_refused_in_one_line(file, inputs, lambda: load_pretrained(folder)) > INPUTS / 2


TYPED = ("", " ", "0", "-1", "2.5", "1e-320", "1e308", "nan", "-inf", "9" * 25, "9" * 5000)
TYPED += ("²", "no/where", "\x1b[2J\n")
NOWHERE = ("--model", "no/such/where")
COMMANDS = {
    model.__main__: ("no/such/where", "x"),
    train.__main__: NOWHERE,
    train.sweep: NOWHERE,
    train.verify.__main__: NOWHERE,
    train.pretrain.__main__: ("--corpus", "no/such/where"),
    evaluate.__main__: ("no/such/where",),
    evaluate.plot: ("no/such/where",),
    evaluate.report.__main__: ("no/such/where",),
    evaluate.rate.__main__: ("no/such/where",),
}


@pytest.mark.parametrize("module", COMMANDS, ids=lambda module: module.__name__)
def test_any_flag(command, refused, module, tmp_path, monkeypatch):
    """Odd values that are taken lead on to a model, a corpus or runs that are not there."""
    monkeypatch.chdir(tmp_path)
    _, described, _ = command(module.main, "--help")
    flags = set(re.findall(r"^  (--[a-z][a-z0-9-]+)", described, re.MULTILINE))
    assert len(flags) >= 1
    for flag in sorted(flags):
        for value in TYPED:
            refused(module.main, *COMMANDS[module], f"{flag}={value}")
    with contextlib.suppress(FileNotFoundError):
        assert {path.name for path in tmp_path.iterdir()} <= {"cache"}  # of the fonts
