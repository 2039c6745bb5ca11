"""Every purpose has a random generator of its own."""

import ast
from pathlib import Path

import numpy as np

from data import generators

ROOT = Path(generators.__file__).parents[1]
PURPOSES = {name: value for name, value in vars(generators).items() if name.isupper()}


def test_a_generator_is_numpys_own():
    numbers = generators.generator(generators.BATCHES, 7, 3).random(5)
    assert numbers.tolist() == np.random.default_rng([1, 7, 3]).random(5).tolist()


def test_no_two_purposes_share_a_generator():
    """In the whole tree: each purpose has one place that draws for it."""
    assert len(set(PURPOSES.values())) == len(PURPOSES)
    drawn, others = [], []
    for file in (file for room in ("data", "model", "train", "evaluate") for file in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "generator":
                drawn.append(ast.unparse(node.args[0]))
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("default_rng"):
                others.append((file.relative_to(ROOT).as_posix(), ast.unparse(node.args[0])))
    assert sorted(drawn) == sorted(PURPOSES.keys() - {"SAMPLING"})
    assert sorted(others) == [
        ("data/generators.py", "[purpose, *seed]"),
        ("model/sampling.py", f"[{generators.SAMPLING}, seed, row]"),
    ]
