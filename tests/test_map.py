"""The map of learning rates, from handmade results."""

from tests.evaluate.handmade import held_out_at, result_of, write_runs
from tests.map import page


def test_the_map_counts_where_rates_turn(tmp_path):
    """With seed 1 the loss of 3e-5 still falls in the last step. The second half of 3e-4 turns later than the first."""
    results, written = [], {"environment": {"dtype": "float32", "seconds": {}}}
    for seed, last in ((0, 3.8), (1, 3.6)):
        points = {
            1e-3: held_out_at([(0, 4.0), (5, 4.1), (20, 3.985), (100, 5.0)]),
            3e-4: held_out_at([(0, 4.0), (20, 3.7), (50, 3.7), (100, 4.4)], {20: (3.5, 3.8), 50: (3.6, 3.7)}),
            1e-4: held_out_at([(0, 4.0), (30, 3.6), (60, 3.65), (100, 3.7 + seed)]),
            3e-5: held_out_at([(0, 4.0), (5, 3.9), (100, 3.75), (200, 3.7), (240, last)]),
        }
        results += [result_of(lr, seed, **written, **changes) for lr, changes in points.items()]
    found = page([write_runs(tmp_path, *results)])
    for words in (
        "Base model: 4.000 (4.000) nats. 100 steps read the training text 45.5 times.",
        "| 1e-3 | 2 | 3.985 (3.985) | 20 | 0.020 | 5.000 (5.000) | 4.100 (4.100) |",
        "| 1e-4 | 2 | 3.600 (3.600) | 30 | 0.0030 | 4.200 (3.700 to 4.700) | 3.650 (3.650) |",
        "| 3e-5 | 2 | 3.650 (3.600 to 3.700) | 200 to 240 | 0.0060 to 0.0072 | 3.750 (3.750) | 3.700 (3.700) |",
        "in 2 of 2: within 0.100 nats, not 0.700 to 0.950.",
        "All three turn in 1 of 2: rate x step at their turns lies within a factor of 2.0.",
        "in 2 of 8: choosing by the first costs 0.025 (0.000 to 0.100) nats.",
        "second in 2 of 8: by 0.316 (0.015 to 0.500) nats, not 0.241 (0.015 to 0.400).",
        "base model's loss: 1e-3 in 2 of 2, 3e-3 in 0 of 0.",
        "Turn within their steps: 1e-3 in 2 of 2, 3e-4 in 2 of 2, 1e-4 in 2 of 2, 3e-5 in 1 of 2.",
    ):
        assert words in found, words
