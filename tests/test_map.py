"""The map of learning rates and what levers do to it, from handmade results."""

from evaluate.results import write_result
from tests.evaluate.handmade import held_out_at, result_of, with_levers, write_runs
from tests.levers import page as levers_page
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


def test_what_levers_do_is_counted_over_orders(tmp_path):
    """Two orders. At a constant 1e-3 the loss is 4.2 at step 50, where the sum of its rates is that of 100 steps of decay."""
    levers = {
        "": {},
        "linear": {"schedule": "linear"},
        "leash 1": {"leash": 1.0},
        "clip 1": {"clip": 1.0},
        "warm": {"schedule": "cosine", "warmup": 20},
    }
    ends = {3e-5: 3.6, 1e-4: 3.62, 3e-4: 4.0, 1e-3: 4.8}
    better = {"": 0.0, "linear": 0.1, "leash 1": 0.2, "clip 1": -0.01, "warm": 0.1}
    folders = []
    for seed in (0, 1):
        for lever, settings in levers.items():
            for lr, end in ends.items():
                end -= better[lever] * (lr > 1e-4) - 0.1 * seed * (lever == "leash 1")
                end = 3.58 if (lever, lr) == ("linear", 1e-4) else end
                points = held_out_at([(0, 4.0), (50, 3.61 if lr < 1e-3 else 4.2), (100, end)])
                result = with_levers(result_of(lr, seed, **points), **settings)
                result["after"] = result["after"] | {"held_out": {"loss": end, "halves": [end, end]}}
                result["environment"] |= {"dtype": "float32", "device_name": "a machine"}
                rates = [lr * (1 - step / 100) if settings.get("schedule") else lr for step in range(100)]
                folder = tmp_path / str(seed) / f"{lr} {lever}"
                folder.mkdir(parents=True)
                write_result(folder, result | {"rates": rates})
        folders.append(tmp_path / str(seed))
    found = levers_page(folders)
    for words in (
        "2 orders: seeds 0, 1, float32; a machine.",
        "| plain | 3.600 (3.600), KL 0.05 | 3.620 (3.620), KL 0.05 | 4.000 (4.000), KL 0.05 | 4.800 (4.800), KL 0.05 | 1 (2) |",
        "| leash 1 | 3.650 (3.600 to 3.700), KL 0.05 | 3.670 (3.620 to 3.720), KL 0.05 |",
        "Linear decay at 1e-3: 4.700 (4.700) at the end; the constant rate where its sum of rates is the same: 4.200 (4.200), at",
        "Clipping changes the loss at the end by 0.000 to 0.010 nats.",
        "Lowest at 1e-3: 4.000 (4.000) with nothing, 4.000 (4.000) with a warm-up.",
        "below the linear decay at 3e-4 in 1 of 2.",
        "The best end with any lever lies +0.020 nats below the best of constant 3e-5 and 1e-4 stopped in time.",
    ):
        assert words in found, words
