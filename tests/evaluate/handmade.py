"""Results made by hand, as a run of 100 steps leaves them, for the tests of tables, figures, verdicts and the page."""

from pathlib import Path

from evaluate.results import LOSSES, lr_label, write_result

STEPS = 100
WORDS = ["My", " father", " was", " a", " mercer", "\n", "at", " Bideford", ".", "\n", "\n", "I", " sailed"]


def continuation(copies=()) -> dict:
    return {"pieces": WORDS, "frequent": [word in (" was", " a", ".") for word in WORDS], "copies": list(copies)}


def losses_of(held_out: float, trained: float = 4.0, halves: tuple | None = None) -> dict:
    """The losses of a model: three windows in each half of the held-out text, equal but for `halves`."""
    first, second = halves or (held_out, held_out)
    return {"held_out_loss": held_out, "held_out_windows": [[first] * 3, [second] * 3], "training_text_loss": trained}


def evaluation(ratio=0.5, **changes) -> dict:
    kl = {"kl": 0.05, "kl_ci": [0.04, 0.06], "loss_increase": 0.05, "loss_increase_ci": [0.03, 0.07]}
    return {
        "ratio": ratio,
        "ratio_ci": [ratio - 0.02, ratio + 0.02],
        "shares": [ratio - 0.1, ratio + 0.1] * 50,
        "without_top_k": ratio - 0.03,
        "without_top_k_ci": [ratio - 0.05, ratio - 0.01],
        "with_top_k": ratio + 0.05,
        "with_top_k_ci": [ratio + 0.03, ratio + 0.07],
        "texts": ["a text", "a second text"],
        "copied": 0.001,
        "copied_shares": [0.1] + [0.0] * 99,
        "longest_copy": {"tokens": 41, "passage": "the longest", "position": 7},
        "distinct_2": 0.7,
        "extraction": {"training": 0.06, "training_ci": [0.05, 0.07], "held_out": 0.06, "held_out_ci": [0.05, 0.07]},
        **losses_of(4.0),
        "forgetting": {"base_texts": kl},
        "continuations": [continuation(), continuation()],
        "seconds": 30.0,
    } | changes


def held_out_at(points: list, halves: dict | None = None) -> dict:
    """What a result keeps of the held-out losses `points`, pairs of step and loss; both halves of the text have the
    same loss but for `halves`, {step: (first, second)}. The loss on the training text falls."""
    checkpoints = [
        {"sample": step, "kl": loss / 10} | losses_of(loss, 4.0 - 0.001 * step, (halves or {}).get(step))
        for step, loss in points
    ]
    best = min(checkpoints, key=lambda point: point["held_out_windows"][0][0])["sample"]
    return {"checkpoints": checkpoints, "best_step": best}


def result_of(lr=1e-4, seed=0, **changes) -> dict:
    """A run on which no rule has anything to say; `changes` are of the result."""
    book = {"ratio": 0.531, "ratio_ci": [0.522, 0.54], "copied": 0.0, "copied_shares": [0.0] * 96, "distinct_2": 0.77}
    book["longest_copy"] = {"tokens": 14}
    result = {
        "lr": lr,
        "samples": STEPS,
        "seed": seed,
        "train_loss": [4.0] * STEPS,
        **held_out_at([[0, 4.0], [50, 4.0], [100, 4.0]]),
        "diverged": None,
        "before": evaluation(),
        "after": evaluation(),
        "best": None,
        "book": book | {"continuations": [continuation(), continuation()]},
        "prompts": ["I had\nupon", "another prompt"],
        "shown": {"temperature": 0.8, "top_k": 40},
        "least_copy": 13,
        "in_sample_ratio": 0.558,
        "book_tokens": 10_000,
        "held_out_tokens": 1000,
        "settings": {
            "samples": STEPS,
            "model": "gpt2",
            "model_name": "gpt2",
            "model_identity": {"name": "gpt2", "parameters": 124_439_808, "sha256": "ab" * 32},
            "text": "gulliver",
            "text_name": "gulliver",
            "text_sha256": "cd" * 32,
            "text_notes": [],
            "raw_text": False,
            "batch_size": 16,
            "seq_len": 256,
            "weight_decay": 0.01,
            "dropout": 0.0,
            "schedule": "constant",
            "warmup": 0,
            "train": "all",
            "leash": 0.0,
            "clip": None,
            "patience": None,
            "temperature": 1.0,
            "top_k": 0,
            "lr": lr,
            "seed": seed,
        },
        "identity": {},
        "environment": {"python": "3.11.2", "seconds": {"before": 30.0, "training": 60.0, "after": 30.0}},
    } | changes
    return {"rates": [result["lr"]] * len(result["train_loss"])} | result


def with_levers(result: dict, **levers) -> dict:
    """`result` with these settings; `samples` too."""
    return result | {"samples": levers.get("samples", result["samples"]), "settings": result["settings"] | levers}


def with_losses(result: dict, losses: list[float]) -> dict:
    """`result` with these losses on held-out text, one every ten steps; KL is a tenth of them."""
    changes = held_out_at([[10 * i, loss] for i, loss in enumerate(losses)])
    for when, loss in (("before", losses[0]), ("after", losses[-1])):
        changes[when] = result[when] and result[when] | losses_of(loss)
    return result | changes


def nothing_held_out(result: dict) -> dict:
    changes = {"held_out_tokens": 0, "book": {"continuations": result["book"]["continuations"]}}
    changes |= {"checkpoints": [{"sample": 0, "kl": 0.0}], "best_step": None}
    for when in ("before", "after"):
        none = {"extraction": result[when]["extraction"] | {"held_out": None, "held_out_ci": None}}
        changes[when] = {key: value for key, value in (result[when] | none).items() if key not in LOSSES}
    return result | changes


def diverged(lr=1.0, losses=(4.0, 9.0), seed=0) -> dict:
    result = with_losses(result_of(lr, seed, train_loss=list(losses)), [4.0])
    return result | {"after": None, "diverged": {"sample": len(losses), "what": "loss"}}


def write_runs(folder: Path, *results: dict) -> Path:
    """A sweep folder with these results."""
    for result in results:
        run = folder / f"lr-{lr_label(result['lr'])}-{result['seed']}"
        run.mkdir(parents=True, exist_ok=True)
        write_result(run, result)
    return folder
