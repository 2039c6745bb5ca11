"""The weights of the lowest held-out loss, kept in `best/` beside the last ones: a model folder like every other."""

from pathlib import Path

from data.files import tidy
from data.tokenizer import copy_tokenizer
from evaluate.baseline import Baseline
from model.gpt2 import GPT2
from model.hub import MODEL_FILES, WEIGHTS_FILE, file_sha256
from model.pretrained import load_pretrained, save_pretrained
from train.run.card import CARD_FILE, drop_card


def keep_best(folder: Path, model: GPT2, baseline: Baseline) -> str | None:
    """Write `model` to `folder`; returns the sha256 of its weights, or None on a full disk.

    Only the weights ever change, and they are replaced as a whole: a process that is killed leaves a whole model.
    """
    try:
        if folder.is_symlink():
            raise OSError(f"{folder} is a link")
        copy_tokenizer(baseline.folder, folder)
        save_pretrained(model, folder, end_of_text=baseline.tokenizer.eot_token)
        return file_sha256(folder / WEIGHTS_FILE)
    except OSError as error:
        print(f"warning: the best weights so far were not kept ({error}); training goes on", flush=True)
        return None


def read_best(folder: Path, sha256: str | None, baseline: Baseline) -> GPT2 | None:
    """The model that `keep_best` wrote; None, and one line that says so, if it is no longer there as it was."""
    try:
        if file_sha256(folder / WEIGHTS_FILE) == sha256:
            return load_pretrained(folder).to(baseline.machine.device)
        error = "its weights are others than those that were kept"
    except (OSError, ValueError) as damage:
        error = damage
    print(f"note: {folder} with the lowest held-out loss is not measured: {error}", flush=True)
    return None


def drop_best(folder: Path) -> None:
    """Delete the model in `folder`, its card, and the folder if nothing else is in it. A link is left alone."""
    if folder.is_symlink():
        return
    tidy(folder, (*MODEL_FILES, CARD_FILE))
    for name in MODEL_FILES:
        (folder / name).unlink(missing_ok=True)
    drop_card(folder)  # last: it says whose model this was
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
