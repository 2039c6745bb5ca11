"""The exercise `testing`: does a student's test pass on healthy batches, and notice the described faults in them?"""

from collections.abc import Callable

import numpy as np
import pytest

from data.batches import sample_batch
from tests.exercise.catches import check_batches
from tests.mutants import FAULTS, ROOT, Fault, put_in

FAULTY = {  # by an id without spaces, such as the-seed-is-ignored
    fault.breaks.replace(",", "").replace(" ", "-"): fault for fault in FAULTS if fault.file == "data/batches.py"
}


def with_fault(fault: Fault) -> Callable:
    """`sample_batch` as it is with the fault in its file."""
    names = {}
    exec(put_in(fault, (ROOT / fault.file).read_text(encoding="utf-8")), names)
    return names["sample_batch"]


def test_the_healthy_function_passes():
    check_batches(sample_batch)


def test_other_random_numbers_pass(monkeypatch):
    """The same function with another generator is healthy too."""
    for purpose in range(50, 70):
        monkeypatch.setattr("data.batches.generator", lambda _, *seed: np.random.default_rng([purpose, *seed]))
        check_batches(sample_batch)


@pytest.mark.parametrize("fault", FAULTY)
def test_a_fault_is_caught(fault):
    check_batches(sample_batch)  # a test that is always red notices nothing
    with pytest.raises(AssertionError):
        check_batches(with_fault(FAULTY[fault]))
