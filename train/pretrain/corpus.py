"""A corpus of texts: a folder of `.txt` files, or a `.jsonl` or `.jsonl.xz` file with one text a line."""

import json
import lzma
from collections.abc import Iterator
from pathlib import Path


def read_corpus(path: str | Path) -> Iterator[tuple[str, str]]:
    """(name, text) of every text in `path`, in the order of the file or of the files' names.

    A line of a `.jsonl` file is an object with `text` and, for the name, `id`.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: a text is not UTF-8, a line is not such an object, or there is no text at all.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob("*.txt"))
        if not files:
            raise ValueError(f"{path} holds no .txt file; name a folder of texts or a .jsonl(.xz) file")
        for file in files:
            try:
                yield file.stem, file.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{file} is not UTF-8 ({error}); convert it first") from None
        return
    if not path.is_file():
        raise FileNotFoundError(f"there is no corpus at {path}; name a folder of texts or a .jsonl(.xz) file")
    opener = lzma.open if path.suffix == ".xz" else open
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                entry = json.loads(line)
                yield str(entry.get("id", number)), entry["text"]
    except (ValueError, KeyError, AttributeError, EOFError, lzma.LZMAError) as error:
        raise ValueError(f"{path}, line {number + 1} or after: not a JSON object with a text ({error!r})") from None
    if not number:
        raise ValueError(f"{path} is empty; a corpus needs at least one text")
