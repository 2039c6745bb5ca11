"""GPT-2's tokenizer: byte-level BPE, run by tiktoken, read from a model folder's own two files.

`vocab.json` maps each token to its id and `merges.txt` lists the pairs to join, first one first.
Both spell bytes as printable characters (`byte_alphabet`), because they are text files.
"""

import json
import re
from pathlib import Path

import tiktoken

END_OF_TEXT = "<|endoftext|>"
# How the text is cut into words before any merging, with a leading space kept on the word: OpenAI's pattern.
WORD_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

LONG = 100_000  # blanks in a row
LONG_BLANKS = re.compile(rf"(?<!\s)\s{{{LONG},}}")


def byte_alphabet() -> dict[int, str]:
    """The printable character that stands for each byte, in the order of the first 256 token ids.

    Bytes that print in Latin-1 stand for themselves; the other 68 get the characters from U+0100 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


class Encoding(tiktoken.Encoding):
    """tiktoken's own, but that it cuts a run of blanks every LONG: one of a million ends in a panic of the library.

    The tokens of a text without such a run are the same.
    """

    def encode_ordinary(self, text: str) -> list[int]:
        cuts = [place for run in LONG_BLANKS.finditer(text) for place in range(run.start() + LONG, run.end(), LONG)]
        parts = (text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)]))
        return [token for part in parts for token in super(Encoding, self).encode_ordinary(part)]


def load_tokenizer(folder: str | Path) -> tiktoken.Encoding:
    """The tokenizer of the model in `folder`.

    Returns:
        a tiktoken Encoding; `eot_token` is the id of `<|endoftext|>`.

    Raises:
        FileNotFoundError: `vocab.json` or `merges.txt` is missing.
        ValueError: they are not a byte-level BPE, or do not belong together.
    """
    folder = Path(folder)
    vocab_file, merges_file = folder / "vocab.json", folder / "merges.txt"
    for file in (vocab_file, merges_file):
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing; a model folder needs vocab.json and merges.txt")
    try:
        vocab = json.loads(vocab_file.read_text(encoding="utf-8"))
        lines = merges_file.read_text(encoding="utf-8").split("\n")
    except ValueError as error:
        raise ValueError(
            f"{folder}: vocab.json or merges.txt is damaged ({error}); fetch the two files again"
        ) from None
    pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]

    # tiktoken merges the pair whose result has the lowest id, so ids must follow the merges' order.
    in_order = [*byte_alphabet().values(), *("".join(pair) for pair in pairs), END_OF_TEXT]
    if not isinstance(vocab, dict) or vocab != {token: i for i, token in enumerate(in_order)}:
        raise ValueError(
            f"{folder}: vocab.json does not list the 256 bytes, the {len(pairs)} merges of merges.txt and "
            f"{END_OF_TEXT}, in this order; the two files must come from the same GPT-2 model"
        )
    byte_of = {char: byte for byte, char in byte_alphabet().items()}
    return Encoding(
        name=folder.name,
        pat_str=WORD_PATTERN,
        mergeable_ranks={bytes(byte_of[char] for char in token): i for i, token in enumerate(in_order[:-1])},
        special_tokens={END_OF_TEXT: len(in_order) - 1},
    )


def save_tokenizer(folder: str | Path, merges: list[tuple[bytes, bytes]]) -> None:
    """Write `merges` as the two files that `load_tokenizer` reads."""
    folder = Path(folder)
    alphabet = byte_alphabet()
    pairs = [tuple("".join(alphabet[byte] for byte in part) for part in pair) for pair in merges]
    in_order = [*alphabet.values(), *("".join(pair) for pair in pairs), END_OF_TEXT]
    vocab = {token: i for i, token in enumerate(in_order)}
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8", newline="\n")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in pairs)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
