"""Learning a vocabulary and reading a corpus: by hand, and against counting anew."""

import json
import lzma
import re
from collections import Counter

import pytest
import tiktoken

from data.tokenizer import WORD_PATTERN, load_tokenizer, save_tokenizer
from train.pretrain.bpe import count_words, join_pair, train_bpe
from train.pretrain.corpus import read_corpus

# Learning a vocabulary


def test_bpe_by_hand():
    """hug 10, pug 5, pun 12, bun 4, hugs 5 (the example of Sennrich et al.'s algorithm in many a course).

    u-g 20 is joined first; then u-n 16; then h-ug 15; then p-un 12; p-ug, hug-s 5 each, and p comes
    after h, so hug-s.
    """
    words = Counter({b"hug": 10, b"pug": 5, b"pun": 12, b"bun": 4, b"hugs": 5})
    merges = train_bpe(words, 257 + 5)
    assert merges == [(b"u", b"g"), (b"u", b"n"), (b"h", b"ug"), (b"p", b"un"), (b"hug", b"s")]
    reordered = Counter(dict(reversed(words.items())))
    assert train_bpe(reordered, 257 + 5) == merges


def test_words_are_counted_over_all_texts():
    assert count_words(["a sea, a sea", "a sea"]) == Counter({b"a": 2, b" a": 1, b" sea": 3, b",": 1})


def test_bpe_with_overlapping_pairs():
    """aaaa holds the pair a-a three times by position; joined from the left, two are left, then one."""
    assert join_pair([b"a"] * 5, (b"a", b"a")) == [b"aa", b"aa", b"a"]
    assert train_bpe(Counter({b"aaaa": 1, b"b": 9}), 259) == [(b"a", b"a"), (b"aa", b"aa")]


def test_bpe_equals_counting_anew_after_every_merge():
    """Against the definition, without index and heap."""
    text = "the thin thing thinks that the other there then withers; " * 3 + "a banana bandana in an anna's cabana"
    counts = count_words([text])
    words = {word: [bytes([byte]) for byte in word] for word in counts}
    expected = []
    for _ in range(25):
        pairs = Counter()
        for word, parts in words.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += counts[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        expected.append(best)
        words = {word: join_pair(parts, best) for word, parts in words.items()}
    assert train_bpe(counts, 257 + 25) == expected


def test_bpe_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="only 1 merges"):
        train_bpe(Counter({b"ab": 1}), 260)


def test_words_are_cut_as_tiktoken_cuts_them(tmp_path):
    """With the merges of whole words only, tiktoken's tokens are the words themselves."""
    text = "We're 3rd: it's “naïve”,  isn't\tit?\n\n  Ⅻ ²x 日本語 don't_stop '' 'll  end \u00a0 x\u0301 "
    counts = count_words([text])
    assert b"'re" in counts and " naïve".encode() not in counts
    pieces = [word for word in counts if len(word) > 1]
    ranks = {bytes([byte]): byte for byte in range(256)} | {piece: 256 + i for i, piece in enumerate(pieces)}
    # A word that is a token is found whole, whatever could be merged; so a cut elsewhere would show.
    encoding = tiktoken.Encoding("words", pat_str=WORD_PATTERN, mergeable_ranks=ranks, special_tokens={})
    words = [encoding.decode_single_token_bytes(token) for token in encoding.encode_ordinary(text)]
    assert b"".join(words) == text.encode("utf-8") and Counter(words) == counts and words[-1] != b"  "


def test_learned_files_are_read_by_tiktoken(tmp_path):
    merges = train_bpe(Counter({b" island": 3, b" islands": 2}), 264)
    save_tokenizer(tmp_path, merges)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode_ordinary(" island") == [261]  # the sixth of the merges makes the word whole
    assert tokenizer.decode([261]) == " island"


# Corpus


def test_corpus_from_a_folder_and_from_lines(tmp_path):
    texts = {"a": "Erste Seite\n", "b": "zweite “Seite”"}
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    lines = "".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in texts.items())
    (tmp_path / "c.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "c.jsonl.xz").write_bytes(lzma.compress(lines.encode("utf-8")))
    for path in (folder, tmp_path / "c.jsonl", tmp_path / "c.jsonl.xz"):
        assert dict(read_corpus(path)) == texts


def test_a_folder_with_subfolders_and_what_a_mac_leaves_in_it(tmp_path):
    """Any case of the ending; hidden files are no texts. A byte-order mark is not part of one."""
    for name in ("b.TXT", "a.b.txt", "sub/deep/c.Txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"\ufeff{name}\ufeff", encoding="utf-8")
    for name in ("._b.txt", ".txt", ".git/d.txt", "sub/.e.txt", "notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\x00\xff")
    (tmp_path / "sub" / "a folder.txt").mkdir()
    texts = {"a.b": "a.b.txt\ufeff", "b": "b.TXT\ufeff", "sub/deep/c": "sub/deep/c.Txt\ufeff"}
    assert list(read_corpus(tmp_path)) == list(texts.items())


def test_empty_lines_a_mark_and_half_a_surrogate(tmp_path):
    lines = (
        '\ufeff{"text": "a\\ud83d\\ude00"}\r\n\n  \n{"text": "\\ud800b\\udc00\\ud83d"}\n{"id": "x", "text": "\u2028"}'
    )
    (tmp_path / "c.jsonl").write_bytes(lines.encode("utf-8"))
    assert list(read_corpus(tmp_path / "c.jsonl")) == [("1", "a😀"), ("4", "\ufffdb\ufffd\ufffd"), ("x", "\u2028")]


@pytest.mark.parametrize(
    "line", [b'{"text": null}', b'{"text": 5}', b'{"text": "\xff"}', b"{", b"[1]", b'"text"', b"5"]
)
@pytest.mark.parametrize("pack", [bytes, lzma.compress])
def test_the_line_that_holds_no_text_is_named(tmp_path, line, pack):
    file = tmp_path / ("c.jsonl" if pack is bytes else "c.jsonl.xz")
    file.write_bytes(pack(b'{"text": "a"}\n\n' + line + b'\n{"text": "b"}\n'))
    with pytest.raises(ValueError, match=f"^{re.escape(str(file))}, line 3: not a JSON object with a text .*$"):
        list(read_corpus(file))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.jsonl", b"not json\n"),
        ("c.jsonl", b'{"id": 1}\n'),
        ("c.jsonl", b"[1]\n"),
        ("c.jsonl", b""),
        ("c.jsonl", b"\n \n"),
        ("c.jsonl", b"[" * 100_000),
        ("c.jsonl", b'{"text": "\xff"}\n'),
        ("c.jsonl.xz", lzma.compress(b'{"text": "a"}\n' * 9)[:-20]),
        ("c.jsonl.xz", b"plain"),
    ],
)
def test_a_broken_corpus_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(name)):
        list(read_corpus(tmp_path / name))


def test_no_corpus(tmp_path):
    with pytest.raises(FileNotFoundError, match="no corpus at"):
        list(read_corpus(tmp_path / "none.jsonl"))
    with pytest.raises(ValueError, match="no .txt file"):
        list(read_corpus(tmp_path))
