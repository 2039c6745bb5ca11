"""The model card of a pretrained model: what it scores, what it writes, how it was made. All figures measured here.

python -m train.pretrain.card model/lilliput --work runs/lilliput/work --texts pg829.txt data/voyage.txt
"""

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import regex
import torch

from data.book import load_book
from data.tokenizer import load_tokenizer
from evaluate.flags import Parser
from evaluate.loss import text_loss
from evaluate.measures.ngram import NGram
from evaluate.report.drawing import Figure
from evaluate.setup import parameter_count
from model.pretrained import load_pretrained
from model.sampling import generate

WORDS = 2000  # that are looked up in the corpus
SAMPLED = {"temperature 1": {}, "temperature 0.8, top-k 40": {"temperature": 0.8, "top_k": 40}}
PROMPTS = ("We had not sailed", "The king", "My wife", "“I cannot", "In the morning")


def bits_per_byte(nats_per_token: float, tokens: int, size: int) -> float:
    """A loss that does not depend on the tokenizer: all of the text's bits over its bytes."""
    return nats_per_token * tokens / math.log(2) / size


def measure(model, tokenizer, train_tokens: np.ndarray, texts: dict[str, tuple[np.ndarray, int]]) -> dict:
    """Bits per byte of the model and of n-grams learned from the same training tokens.

    Args:
        texts: name to (token ids, bytes).
    """
    ngrams = NGram(train_tokens, 3, tokenizer.n_vocab)
    figures = {}
    for name, (tokens, size) in texts.items():
        loss = text_loss(model, torch.from_numpy(tokens.astype(np.int64)), model.config.block_size)
        figures[name] = {"bytes": size, "tokens": len(tokens), "nats_per_token": loss}
        figures[name]["model"] = bits_per_byte(loss, len(tokens) - 1, size)
        for order, title in ((1, "unigram"), (2, "bigram"), (3, "trigram")):
            nats = -np.log(ngrams.shortened(order).probabilities(tokens)[1:]).mean()
            figures[name][title] = bits_per_byte(nats, len(tokens) - 1, size)
    return figures


def samples(model, tokenizer, temperature: float = 0.8, new_tokens: int = 70, seed: int = 0) -> list[str]:
    """One continuation of each prompt, the first one drawn."""
    written = []
    for row, prompt in enumerate(PROMPTS):
        tokens = torch.tensor([tokenizer.encode_ordinary(prompt)])
        text = generate(
            model, tokens, new_tokens, temperature=temperature, seed=seed, first_row=row, banned=[tokenizer.eot_token]
        )
        written.append(tokenizer.decode(text[0].tolist()))
    return written


def words_of(text: str) -> list[str]:
    """Its runs of letters, in small letters."""
    return [word.lower() for word in regex.findall(r"\p{L}+", text)]


def invented_words(texts: Iterable[str], known: set[str], count: int = WORDS) -> list[str]:
    """Those of the first `count` words of `texts` that are not in `known`; the last of each text may be cut and is
    left out."""
    words = [word for text in texts for word in words_of(text)[:-1]]
    if len(words) < count:
        raise ValueError(f"the texts have {len(words)} words, {count} are to be looked at; write more")
    return [word for word in words[:count] if word not in known]


def count_invented(model, tokenizer, train_tokens: np.ndarray) -> dict[str, int]:
    """How many of `WORDS` sampled words stand nowhere in the training corpus, by how they are sampled."""
    known = set(words_of(tokenizer.decode(train_tokens.tolist())))
    start = torch.full((64, 1), tokenizer.eot_token)  # texts that begin as those of the corpus do
    found = {}
    for name, bent in SAMPLED.items():
        rows = generate(model, start, 120, banned=[tokenizer.eot_token], **bent)
        found[name] = len(invented_words(map(tokenizer.decode, rows[:, 1:].tolist()), known))
    return found


def plot_training(training: dict, file: Path) -> None:
    """Training and held-out loss against tokens seen."""
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    ax = figure.subplots()
    per_step = training["tokens_seen"] / training["settings"]["steps"] / 1e6
    for key, label, style in (("train_loss", "training", "--"), ("held_out_loss", "held-out books", "-")):
        steps, losses = np.array(training[key]).T
        ax.plot(steps * per_step, losses, style, color="black" if key == "held_out_loss" else "#777777", label=label)
    ax.set(xlabel="tokens seen (millions)", ylabel="loss (nats per token)", title="Pretraining")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#dddddd", linewidth=0.6)
    ax.legend(frameon=False)
    figure.savefig(file)


def how_it_was_made(training: dict, pilots: list[dict], size: int) -> str:
    """The card's section on the corpus, the training and the choice of the size; `size` is the weights' in bytes."""
    settings, corpus = training["settings"], training["corpus"]
    held_out = corpus["held_out"]["texts"]
    names = "\n".join(corpus["train"]["texts"])
    flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items() if name != "float32")
    pilot_rows = [
        f"| {p['settings']['n_layer']} | {p['settings']['n_embd']} | {p['settings']['vocab_size']:,} | {p['settings']['lr']:g} "
        f"| {p['parameters']:,} | {p['held_out_bits_per_byte'][-1][1]:.4f} |"
        for p in pilots
    ]
    return f"""## How it was made

```
python -m train.pretrain --corpus {corpus["corpus"]} {flags}
```

| | |
|---|---|
| corpus | {len(corpus["train"]["texts"])} public-domain English books from Project Gutenberg, {corpus["train"]["bytes"]:,} bytes, {corpus["train"]["tokens"]:,} tokens; none by Swift |
| the books' ebook numbers | `training.json`; sha256 of the numbers, one a line: `{hashlib.sha256(names.encode("utf-8")).hexdigest()}` |
| held out | {len(held_out)} whole books, drawn by the seed: {", ".join(held_out)} |
| tokens seen | {training["tokens_seen"]:,}, in {settings["steps"]:,} steps of {settings["batch_size"]} x {settings["block_size"]} |
| time | {training["seconds"] / 3600:.2f} hours of training on {training["machine"]} |
| file | {size:,} bytes: float16, loaded as float32 |

![training and held-out loss](training.png)

The size was chosen by trial, 300 steps each, on one set of held-out books (bits per byte of their first
100,000 tokens; lower is better):

| layers | width | vocabulary | peak learning rate | parameters | held-out bits per byte |
|---|---|---|---|---|---|
{chr(10).join(pilot_rows)}
"""


def what_it_scores(name: str, block_size: int, figures: dict) -> str:
    """The card's section with the figures of `measure`, for the model called `name`."""
    rows = [
        f"| {text} | {f['bytes']:,} | **{f['model']:.3f}** | {f['unigram']:.3f} | {f['bigram']:.3f} | {f['trigram']:.3f} |"
        for text, f in figures.items()
    ]
    return f"""## What it scores

Bits per byte, lower is better, each text in windows of {block_size} tokens read from a fresh start. Beside it the
n-grams that the same training tokens give (interpolated, discounted by 0.75). The unigram is what a
GPT-2 of 0 layers could reach at best.

| text | bytes | {name} | unigram | bigram | trigram |
|---|---|---|---|---|---|
{chr(10).join(rows)}
"""


def card(
    folder: Path,
    training: dict,
    figures: dict,
    written: list[str],
    invented: dict[str, int],
    parameters: int,
    pilots: list[dict],
) -> str:
    """The card's text."""
    settings = training["settings"]
    quoted = "\n\n".join("> " + text.replace("\n", "\n> ") for text in written)
    return f"""# {folder.name.capitalize()}

A GPT-2 of {parameters:,} parameters that is small enough to ship: {settings["n_layer"]} layers, {
        settings["n_embd"]
    } wide,
{settings["n_head"]} heads, a context of {settings["block_size"]} tokens, a vocabulary of {
        settings["vocab_size"]:,}. It exists so that the
experiment of this project can be run anywhere in two minutes. It is a real pretrained language model,
and it is not GPT-2: no figure made with it says anything about OpenAI's weights.

This page is written by `python -m train.pretrain.card`; every figure in it is measured.

{how_it_was_made(training, pilots, (folder / "model.safetensors").stat().st_size)}
{what_it_scores(folder.name, settings["block_size"], figures)}
## What it writes

The first draw for each prompt (temperature 0.8, no top-k, seed 0), not chosen:

{quoted}

Of {WORDS:,} words that it writes from nothing, so many stand nowhere in the training corpus: {
        "; ".join(f"{count} ({100 * count / WORDS:.1f} %) at {name}" for name, count in invented.items())
    }.

## What it must not be used for

Anything but this experiment and the study of the code. It has read nothing but old books: it knows no
facts worth having, repeats the prejudices of its sources, and loses the thread after a clause or two.
"""


def read_pilots(folder: Path, trials: list[Path]) -> list[dict]:
    """What the card says of the trial runs in `trials`; without any, of those of the card that is in `folder`."""
    if not trials:
        kept = folder / "figures.json"
        return json.loads(kept.read_text(encoding="utf-8")).get("pilots", []) if kept.is_file() else []
    pilots = []
    for trial in trials:
        training = json.loads((trial / "training.json").read_text(encoding="utf-8"))
        parameters = parameter_count(load_pretrained(trial).config)
        pilots.append(
            {"parameters": parameters, "settings": training["settings"]}
            | {"held_out_bits_per_byte": training["held_out_bits_per_byte"]}
        )
    return pilots


def main() -> None:
    parser = Parser(
        prog="python -m train.pretrain.card",
        description="Measure a pretrained model and write its card: README.md, figures.json and training.png.",
    )
    parser.add_argument("folder", type=Path, help="the model folder, with training.json")
    parser.add_argument("--work", type=Path, required=True, help="the work folder of the pretraining")
    parser.add_argument("--texts", nargs="*", default=[], help="further texts to measure: gulliver, voyage or files")
    parser.add_argument(
        "--pilots",
        nargs="*",
        type=Path,
        default=[],
        help="folders of trial runs, for the table of sizes (default: those of the present card)",
    )
    args = parser.parse_args()
    with parser.errors_in_one_line():
        model, tokenizer = load_pretrained(args.folder), load_tokenizer(args.folder)
        training = json.loads((args.folder / "training.json").read_text(encoding="utf-8"))
        books = {text: load_book(text) for text in args.texts}
        pilots = read_pilots(args.folder, args.pilots)
        held_out, train_tokens = np.load(args.work / "held_out.npy"), np.load(args.work / "train.npy")
    texts = {"the held-out books": (held_out, training["corpus"]["held_out"]["bytes"])}
    for book in books.values():
        tokens = np.array([tokenizer.eot_token, *tokenizer.encode_ordinary(book.text)])
        texts[book.name] = (tokens, len(book.text.encode("utf-8")))
    figures = measure(model, tokenizer, train_tokens, texts)
    written = samples(model, tokenizer)
    invented = count_invented(model, tokenizer, train_tokens)
    content = {"bits_per_byte": figures, "samples": written, "invented_words": invented, "pilots": pilots}
    (args.folder / "figures.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    plot_training(training, args.folder / "training.png")
    text = card(args.folder, training, figures, written, invented, parameter_count(model.config), pilots)
    (args.folder / "README.md").write_text(text, encoding="utf-8")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
