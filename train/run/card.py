"""The model card of a fine-tuned model, README.md in its folder, with the metadata for the hub."""

from pathlib import Path

from evaluate.report.texts import how_drawn
from evaluate.results import Evaluation, Result, describe, lr_label, runs_of
from evaluate.table import table
from model.hub import HUB

CARD_FILE = "README.md"
FIRST_WORDS = "One run of an experiment: what does the learning rate do to a fine-tune?"
TEXTS = {  # by the value of --text; nothing is known about other files
    "gulliver": "*Gulliver's Travels* by Jonathan Swift (1726), Project Gutenberg's ebook 829, in the public domain in "
    "the United States",
    "voyage": "a tale that was written for the project and is part of it",
}


def is_card(file: Path) -> bool:
    """Whether `file` is a card that was written here, and no README.md of somebody's."""
    try:
        return FIRST_WORDS in file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


def drop_card(folder: Path) -> None:
    """Delete the card in `folder`; somebody's own README.md stays."""
    if is_card(folder / CARD_FILE):
        (folder / CARD_FILE).unlink()


def model_card(result: Result, best: bool = False) -> str:
    """The card of the last weights of a finished run that has not diverged, or of its `best` ones, in Markdown."""
    from huggingface_hub import ModelCardData  # only here: a run needs it only at its end

    (run,), settings = runs_of([result]), result["settings"]
    identity = settings["model_identity"]
    repository = identity.get("repository")
    of_openai = repository in [source.repository for source in HUB.values()]
    rate, text = lr_label(result["lr"]), settings["text_name"]
    measured, step = (result["best"], result["best_step"]) if best else (result["after"], len(result["train_loss"]))
    head = ModelCardData(
        base_model=repository,
        language="en" if settings["text"] in TEXTS else None,
        library_name="transformers",
        license="mit" if of_openai else "unknown",
        pipeline_tag="text-generation",
        tags=["gpt2", "learning-rate"],
    )
    base = f"`{settings['model_name']}`, sha256 of its weights `{identity['sha256']}`; "
    base += f"`{repository}` on the hub, revision `{identity['revision']}`, " if repository else ""
    base += "OpenAI's modified MIT licence" if of_openai else "its licence is not known here: look at its own card"
    source = TEXTS.get(settings["text"], "whose it is, and what its licence allows, is not known here")
    shown = [line for line in table([run]).splitlines() if line.startswith("|")][:-1]  # without the book
    return f"""---
{head.to_yaml()}
---

# {settings["model_name"]} on {text} at a learning rate of {rate}

{FIRST_WORDS} {describe([run])}. These are its
weights after step {step}{", where the held-out loss was lowest" * best}.

| | |
|---|---|
| base model | {base} |
| text | `{text}`: {source}; {result["book_tokens"]:,} tokens, the last {result["held_out_tokens"]:,} not trained on |
| training | AdamW at {rate}, weight decay {settings["weight_decay"]:g}; {settings["dtype"]} products |

{chr(10).join(shown)}

Losses are in nats per token. The ratio is the share of the written tokens that are among the text's 100 most frequent
tokens; the text's own ratio is {run.book_ratio:.3f}. `result.json` has every loss, setting and version.

{sample(result, measured)}
## How to open it

```
python -m model FOLDER "A prompt of your own"     # in the project
```

```python
from transformers import pipeline

pipeline("text-generation", model="FOLDER")("A prompt of your own")
```

## What it must not be used for

Use it only to study fine-tuning. Its texts are likely, not true, and it has the prejudices of its training texts.
{100 * measured["copied"]:.1f} % of what it writes is copied word for word from the text of the fine-tune.
No right in that text is given here: make sure that you are allowed to publish the model.
"""


def sample(result: Result, measured: Evaluation) -> str:
    """A section with the first continuation of a model; "" where the text was too short for any."""
    if not result["prompts"]:
        return ""
    written = result["prompts"][0] + "".join(measured["continuations"][0]["pieces"])
    quoted = "\n".join(f"> {line}".rstrip() for line in written.splitlines())
    return f"## What it writes\n\nAfter the first prompt from its text ({how_drawn(result)}):\n\n{quoted}\n"
