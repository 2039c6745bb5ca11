"""GPT-2's tokenizer: byte-level BPE, run by tiktoken, read from a model folder's own files.

`vocab.json` maps each token to its id and `merges.txt` lists the pairs to join, in their order.
Both spell bytes as printable characters (`byte_alphabet`), because they are text files. Today the
hub's library writes one file instead, `tokenizer.json`, with the same content.
"""

import json
import re
from pathlib import Path

import regex
import tiktoken

from data.files import write_whole

END_OF_TEXT = "<|endoftext|>"
# How the text is cut into words before any merging, with a leading space kept on the word: OpenAI's pattern.
WORD_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
SPECIAL = re.compile(r"<.+>|\[.+\]")  # tokens that stand for no text, such as <s> or [PAD]


class Tokenizer(tiktoken.Encoding):
    """tiktoken's BPE. Bytes without an id are left out of a text, as the hub's library does; tiktoken panics at one."""

    def encode_ordinary(self, text: str) -> list[int]:
        missing = bytes(byte for byte in range(256) if bytes([byte]) not in self._mergeable_ranks)
        if not missing:
            return super().encode_ordinary(text)
        # Left out of each word before its merges: the bytes on both sides may merge.
        words = (word.encode("utf-8", "replace").translate(None, missing) for word in regex.findall(WORD_PATTERN, text))
        return [token for word in words if word for token in self._core_bpe.encode_single_piece(word)]


def byte_alphabet() -> dict[int, str]:
    """The printable character that stands for each byte, in the order of the first 256 token ids.

    Bytes that print in Latin-1 stand for themselves; the other 68 get the characters from U+0100 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of the model in `folder`.

    Returns:
        a tiktoken Encoding; `eot_token` is the id of `<|endoftext|>`. Tokens that were added to a finished vocabulary
        are left out: GPT-2 does not use them.
    """
    vocab, pairs = read_vocabulary(Path(folder))
    byte_of = {char: byte for byte, char in byte_alphabet().items()}
    merged = ["".join(pair) for pair in pairs]
    words = vocab.keys() & {*byte_of, *merged}
    special = {token: number for token, number in vocab.items() if token not in words}
    if (
        (ids := [vocab.get(token, -1) for token in merged]) != sorted(set(ids))  # tiktoken merges the lowest id first
        or not words.issuperset(part for pair in pairs for part in (*pair, "".join(pair)))
        or sorted(vocab.values()) != list(range(len(vocab)))
        or END_OF_TEXT not in special
        or not all(map(SPECIAL.fullmatch, special))
    ):
        raise ValueError(
            f"{folder}: the vocabulary is not bytes, the {len(pairs)} merges of them in their order, {END_OF_TEXT} and "
            f"other tokens such as <s> or [PAD], with the ids from 0 to {len(vocab) - 1}; "
            "vocab.json and merges.txt, or tokenizer.json, must come from the same GPT-2 model"
        )
    return Tokenizer(
        Path(folder).name,
        pat_str=WORD_PATTERN,
        mergeable_ranks={bytes(byte_of[char] for char in token): vocab[token] for token in words},
        special_tokens=special,
    )


def read_vocabulary(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The ids of the tokens in `folder`, without added tokens, and the merges."""
    vocab_file, merges_file, whole = (folder / name for name in ("vocab.json", "merges.txt", "tokenizer.json"))
    try:
        if vocab_file.is_file() and merges_file.is_file():
            vocab = json.loads(vocab_file.read_text(encoding="utf-8"))
            lines = merges_file.read_text(encoding="utf-8").split("\n")
            pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        elif whole.is_file():
            vocab, pairs = in_one_file(json.loads(whole.read_text(encoding="utf-8")))
        else:
            raise FileNotFoundError(f"{folder} has no tokenizer; a model folder needs vocab.json and merges.txt")
        wrong = [number for number in vocab.values() if type(number) is not int]  # Python could convert true and 1.5
        wrong += [pair for pair in pairs if [*map(type, pair)] != [str, str] or "" in pair]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no id, or no pair of tokens")
        return vocab, [(left, right) for left, right in pairs]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{folder}: its tokenizer's files are damaged ({error}); fetch them again") from None


def in_one_file(content: dict) -> tuple[dict[str, int], list[list[str]]]:
    """Vocabulary and merges of a `tokenizer.json`; of the tokens added later only `<|endoftext|>`."""
    words, model = content["pre_tokenizer"], content["model"]
    gpt2s = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    if gpt2s != {name: words.get(name, True) for name in gpt2s} or content.get("normalizer"):
        raise ValueError("tokenizer.json is not of GPT-2's kind: byte level, no space added, nothing normalized")
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    added = {token["content"]: token["id"] for token in content["added_tokens"]}
    return {token: added[token] for token in [END_OF_TEXT] if token in added} | model["vocab"], pairs


def save_tokenizer(folder: str | Path, merges: list[tuple[bytes, bytes]]) -> None:
    """Write `merges` as the two files that `load_tokenizer` reads, with the ids in GPT-2's order."""
    alphabet = byte_alphabet()
    pairs = [tuple("".join(alphabet[byte] for byte in part) for part in pair) for pair in merges]
    in_order = [*alphabet.values(), *("".join(pair) for pair in pairs), END_OF_TEXT]
    write_vocabulary(Path(folder), {token: i for i, token in enumerate(in_order)}, pairs)


def copy_tokenizer(source: str | Path, folder: str | Path) -> None:
    """Write the tokenizer of the model in `source` to `folder`, as `vocab.json` and `merges.txt`."""
    write_vocabulary(Path(folder), *read_vocabulary(Path(source)))


def write_vocabulary(folder: Path, vocab: dict[str, int], pairs: list[tuple[str, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in pairs)]
    for name, text in (("vocab.json", json.dumps(vocab)), ("merges.txt", "\n".join(lines) + "\n")):
        write_whole(folder / name, lambda part: part.write_text(text, encoding="utf-8", newline="\n"))
