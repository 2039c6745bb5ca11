"""The weights of the lowest held-out loss, kept in `best/` beside the last ones: a model folder like every other."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from data.tokenizer import copy_tokenizer
from evaluate.baseline import Baseline
from model.gpt2 import GPT2
from model.hub import MODEL_FILES, WEIGHTS_FILE
from model.pretrained import load_pretrained, save_pretrained
from train.run.card import CARD_FILE


def keep_best(folder: Path, model: GPT2, step: int, baseline: Baseline) -> None:
    """Write `model` after `step` to `folder`. On a full disk what was there stays, and a warning is printed.

    The tokenizer and the sizes are always the same, and the weights replace the older ones as a whole: a process that
    is killed at any moment leaves one whole model, or none.
    """
    try:
        copy_tokenizer(baseline.folder, folder)
        save_pretrained(model, folder, end_of_text=baseline.tokenizer.eot_token, notes={"step": str(step)})
    except OSError as error:
        print(
            f"warning: the best weights so far, of step {step}, were not kept ({error}); training goes on", flush=True
        )


def read_best(folder: Path, step: int, baseline: Baseline) -> GPT2 | None:
    """The model that `keep_best` wrote after `step`; None, and one line that says why, if it is no longer there."""
    try:
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as opened:
            kept = opened.metadata()["step"]
        if kept == str(step):
            return load_pretrained(folder).to(baseline.machine.device)
        reason = f"it holds the weights of step {kept}"
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error)
    print(f"note: {folder} is not measured: the lowest held-out loss was at step {step}, but {reason}", flush=True)
    return None


def drop_best(folder: Path) -> None:
    """Delete the model in `folder`, its card, and the folder if nothing else is in it."""
    for name in (*MODEL_FILES, CARD_FILE):
        (folder / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
