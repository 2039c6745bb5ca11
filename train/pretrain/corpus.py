"""A corpus (a folder of `.txt` files, or a `.jsonl` or `.jsonl.xz` file with one text a line), read and tokenized."""

import json
import lzma
import re
from collections import Counter
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.files import write_whole
from data.generators import HELD_OUT_TEXTS, generator
from data.tokenizer import load_tokenizer, save_tokenizer
from evaluate.results import write_json
from train.pretrain.bpe import count_words, train_bpe
from train.run.folder import refuse_changes

ADVICE = "or name another --out"


def read_corpus(path: str | Path) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of every text in `path`, in the order of the lines or of the file names.

    A line of a `.jsonl` file is an object with `text` and, for the name, `id`. A folder is read with its subfolders.
    Empty lines, hidden files and byte-order marks are skipped.
    """
    path = Path(path)
    if path.is_dir():
        found = glob("**/*.[tT][xX][tT]", root_dir=path, recursive=True)  # without hidden files and folders
        names = sorted(name for name in map(Path, found) if (path / name).is_file())
        if not names:
            raise ValueError(f"{path} holds no .txt file; name a folder of texts or a .jsonl(.xz) file")
        for name in names:
            try:
                yield name.with_suffix("").as_posix(), (path / name).read_text(encoding="utf-8-sig")
            except UnicodeDecodeError as error:
                raise ValueError(f"{path / name} is not UTF-8 ({error}); convert it first") from None
        return
    if not path.is_file():
        raise FileNotFoundError(f"there is no corpus at {path}; name a folder of texts or a .jsonl(.xz) file")
    opener = lzma.open if path.suffix == ".xz" else open
    number = 0
    try:
        with opener(path, "rb") as lines:
            for number, line in ((n, line) for n, line in enumerate(lines, start=1) if line.strip()):
                entry = json.loads(line)
                # Half a surrogate pair is no character: it could not be encoded.
                yield str(entry.get("id", number)), re.sub("[\ud800-\udfff]", "\ufffd", entry["text"])
    except (EOFError, lzma.LZMAError) as error:
        raise ValueError(f"{path} cannot be read after line {number} ({error}); it is damaged") from None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}, line {number}: not a JSON object with a text ({error})") from None
    if not number:
        raise ValueError(f"{path} is empty; a corpus needs at least one text")


def prepare_corpus(corpus: Path, folder: Path, vocab_size: int, held_out_texts: int, seed: int) -> dict:
    """Learn the vocabulary and tokenize the corpus into `folder`; a second call uses the files that are there.

    The held-out texts are drawn by `seed`; the vocabulary is learned without them. Each text starts with
    `<|endoftext|>`. The tokens go to `train.npy` and `held_out.npy`, the vocabulary to `vocab.json` and `merges.txt`.

    Returns:
        the names of the training and of the held-out texts, with the bytes and tokens of both.
    """
    summary_file = folder / "corpus.json"
    made_of = {"corpus": corpus.name, "vocab_size": vocab_size, "held_out_texts": held_out_texts, "seed": seed}
    if summary_file.is_file():
        summary = json.loads(summary_file.read_text(encoding="utf-8"))
        refuse_changes(summary_file, made_of, {name: summary.get(name) for name in made_of}, ADVICE)
        return summary
    texts, again = {}, Counter()
    for name, text in read_corpus(corpus):
        while (free := f"{name} ({again[name] + 1})" if again[name] else name) in texts:
            again[name] += 1
        texts[free] = text
    if held_out_texts >= len(texts):
        raise ValueError(
            f"--held-out {held_out_texts} leaves none of the {len(texts)} texts to train on; hold out fewer"
        )
    folder.mkdir(parents=True, exist_ok=True)
    held_out = set(generator(HELD_OUT_TEXTS, seed).choice(list(texts), size=held_out_texts, replace=False).tolist())
    sides = {"train": [n for n in texts if n not in held_out], "held_out": [n for n in texts if n in held_out]}
    words = count_words(texts[name] for name in tqdm(sides["train"], "counting words", unit="text", disable=None))
    save_tokenizer(folder, train_bpe(words, vocab_size))
    summary = made_of | {side: tokenize(side, {n: texts[n] for n in names}, folder) for side, names in sides.items()}
    write_json(summary_file, summary)
    return summary


def tokenize(side: str, texts: dict[str, str], folder: Path) -> dict:
    """Write the tokens of `texts` to `folder`, which has the tokenizer; returns their names, bytes and tokens."""
    tokenizer = load_tokenizer(folder)
    rows = [
        np.array([tokenizer.eot_token, *tokenizer.encode_ordinary(text)], dtype=np.uint16)
        for text in tqdm(texts.values(), f"tokenizing, {side}", unit="text", disable=None)
    ]
    write_whole(folder / f"{side}.npy", lambda part: np.save(part, np.concatenate(rows)))
    return {
        "texts": list(texts),
        "bytes": sum(len(text.encode("utf-8")) for text in texts.values()),
        "tokens": sum(map(len, rows)),
    }
