"""Book, tokenizer, vocabulary and batches."""

import hashlib
import json
import lzma
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import tiktoken
import torch

from data import load_book, load_tokenizer, sample_batch
from data.book import cached_gulliver, cut_frame
from data.bpe import count_words, join_pair, train_bpe, word_pattern
from data.corpus import read_corpus
from data.tokenizer import WORD_PATTERN, byte_alphabet, save_tokenizer

FRAMED = (
    "\ufeffThe Project Gutenberg eBook of A Voyage\r\n\r\n*** START OF THE PROJECT GUTENBERG EBOOK A VOYAGE ***\r\n\r\n\r\n"
    "A VOYAGE\r\n\r\nWe sailed “at last”;\r\nand sank.\r\n\r\n*** END OF THE PROJECT GUTENBERG EBOOK A VOYAGE ***\r\nLicence\r\n"
)

# Batches


def test_targets_are_the_inputs_shifted_by_one():
    inputs, targets = sample_batch(torch.arange(100, 200), batch_size=32, seq_len=7, seed=0, step=0)
    assert inputs.shape == targets.shape == (32, 7) and inputs.dtype == torch.int64
    assert torch.equal(targets, inputs + 1)
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(7))


def test_every_window_can_come_and_all_equally_often():
    tokens = torch.arange(10)
    firsts = torch.cat([sample_batch(tokens, 16, 4, seed=1, step=step)[0][:, 0] for step in range(500)])
    counts = torch.bincount(firsts, minlength=10)
    assert counts[6:].sum() == 0 and counts[:6].min() > 0  # 6 windows of 4 + 1 tokens; the last ends on the last token
    expected = 8000 / 6
    assert ((counts[:6] - expected) ** 2 / expected).sum() < 20  # chi-squared with 5 degrees of freedom: p = 0.001


def test_batches_are_int64_whatever_the_text_is_stored_as():
    inputs, targets = sample_batch(torch.arange(9, dtype=torch.int32), batch_size=2, seq_len=4, seed=0, step=0)
    assert inputs.dtype == targets.dtype == torch.int64


def test_a_text_of_one_window_only():
    inputs, targets = sample_batch(torch.arange(5), batch_size=2, seq_len=4, seed=0, step=0)
    assert inputs.tolist() == [[0, 1, 2, 3]] * 2 and targets.tolist() == [[1, 2, 3, 4]] * 2


def test_a_batch_depends_on_seed_and_step_alone():
    tokens = torch.arange(1000)

    def batch(seed, step):
        return sample_batch(tokens, 4, 8, seed, step)[0].tolist()

    expected = batch(3, 5)
    torch.manual_seed(1)
    np.random.seed(1)
    batch(3, 4)
    assert batch(3, 5) == expected
    different = [batch(seed, step) for seed in range(4) for step in range(4)]
    assert len({str(b) for b in different}) == 16


# Tokenizer


def test_bytes_have_the_alphabet_of_gpt2():
    alphabet = byte_alphabet()
    assert sorted(alphabet) == list(range(256)) and len(set(alphabet.values())) == 256
    assert (alphabet[ord(" ")], alphabet[ord("\n")], alphabet[ord("a")], alphabet[0xAD]) == ("Ġ", "Ċ", "a", "Ń")
    assert list(alphabet)[:2] == [ord("!"), ord('"')]  # ids 0 and 1 of GPT-2


def test_encode_then_decode_returns_every_byte(tokenizer_folder):
    tokenizer = load_tokenizer(tokenizer_folder)
    assert tokenizer.n_vocab == 300 and tokenizer.eot_token == 299
    for text in ("the captain saw the island;\n", "“naïve” — 42nd 日本 🏝\r\n\t  x", "", "  ", "<|endoftext|>"):
        tokens = tokenizer.encode_ordinary(text)
        assert tokenizer.decode(tokens) == text
        assert tokenizer.eot_token not in tokens
    assert tokenizer.decode_bytes(range(256)) == bytes(byte_alphabet())


def test_files_that_do_not_belong_together_are_refused(tmp_path, tokenizer_folder):
    def copy(edit_vocab=lambda v: v, edit_merges=lambda m: m):
        vocab = json.loads((tokenizer_folder / "vocab.json").read_text(encoding="utf-8"))
        (tmp_path / "vocab.json").write_text(json.dumps(edit_vocab(vocab)), encoding="utf-8")
        merges = (tokenizer_folder / "merges.txt").read_text(encoding="utf-8")
        (tmp_path / "merges.txt").write_text(edit_merges(merges), encoding="utf-8")
        return tmp_path

    load_tokenizer(copy())
    for damage in (
        {"edit_vocab": lambda v: {k: i for k, i in v.items() if i != 270}},
        {"edit_vocab": lambda v: [v]},
        {"edit_merges": lambda m: "\n".join(m.split("\n")[:-2])},
        {"edit_merges": lambda m: m.replace("\n", "\n\n", 2).replace(" ", "  ", 1)[:-20]},
    ):
        with pytest.raises(ValueError, match="does not list the 256 bytes"):
            load_tokenizer(copy(**damage))
    copy()
    (tmp_path / "vocab.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="damaged"):
        load_tokenizer(tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(FileNotFoundError, match="merges.txt is missing"):
        load_tokenizer(tmp_path)


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
    with pytest.raises(ValueError, match="no room"):
        train_bpe(Counter({b"ab": 1}), 256)
    with pytest.raises(ValueError, match="only 1 merges"):
        train_bpe(Counter({b"ab": 1}), 260)


def test_words_are_cut_as_tiktoken_cuts_them(tmp_path):
    """With the merges of whole words only, tiktoken's tokens are the words themselves."""
    text = "We're 3rd: it's “naïve”,  isn't\tit?\n\n  Ⅻ ²x 日本語 don't_stop '' 'll  end \u00a0 x\u0301 "
    words = word_pattern().findall(text)
    assert "".join(words) == text and " naïve" not in words and "'re" in words and "  " not in words[-1:]
    pieces = [word.encode("utf-8") for word in dict.fromkeys(words) if len(word.encode("utf-8")) > 1]
    ranks = {bytes([byte]): byte for byte in range(256)} | {piece: 256 + i for i, piece in enumerate(pieces)}
    # A word that is a token is found whole, whatever could be merged; so a cut elsewhere would show.
    encoding = tiktoken.Encoding("words", pat_str=WORD_PATTERN, mergeable_ranks=ranks, special_tokens={})
    assert [encoding.decode_bytes([t]).decode("utf-8") for t in encoding.encode_ordinary(text)] == words


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


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.jsonl", b"not json\n"),
        ("c.jsonl", b'{"id": 1}\n'),
        ("c.jsonl", b"[1]\n"),
        ("c.jsonl", b""),
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


# Book


def test_the_frame_is_cut_and_lines_end_in_lf(tmp_path):
    file = tmp_path / "voyage.txt"
    file.write_bytes(FRAMED.encode("utf-8"))
    book = load_book(file)
    assert book.text == "A VOYAGE\n\nWe sailed “at last”;\nand sank."
    assert book.name == "voyage" and not book.raw and not book.notes
    assert book.sha256 == hashlib.sha256(FRAMED.encode("utf-8")).hexdigest()
    raw = load_book(file, raw=True)
    assert raw.text == FRAMED[1:] and raw.raw and raw.sha256 == book.sha256  # all but the byte-order mark


def test_a_text_without_a_frame_is_kept_whole(tmp_path):
    (tmp_path / "plain.txt").write_bytes("Größe\r\nund Maß".encode())
    assert load_book(tmp_path / "plain.txt").text == "Größe\nund Maß"
    assert cut_frame("*** START OF THIS PROJECT GUTENBERG EBOOK X ***\nold style") == "old style"


def test_texts_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="no text '.*none.txt'"):
        load_book(tmp_path / "none.txt")
    for content, complaint in (
        (b"caf\xe9", "not UTF-8"),
        (b"", "is empty"),
        (b" \r\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
    ):
        (tmp_path / "bad.txt").write_bytes(content)
        with pytest.raises(ValueError, match=complaint):
            load_book(tmp_path / "bad.txt")


@pytest.fixture
def gutenberg():
    """A server on this machine that sends whatever `page` holds, and notes how it was asked."""

    class State:
        page, requests = FRAMED.encode("utf-8"), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            State.requests.append(self.headers["User-Agent"])
            self.send_response(200)
            self.send_header("Content-Length", str(len(State.page)))
            self.end_headers()
            self.wfile.write(State.page)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    State.url = f"http://127.0.0.1:{server.server_port}/pg829.txt"
    yield State
    server.shutdown()
    server.server_close()


def test_the_book_is_fetched_once_and_cached_byte_for_byte(gutenberg, tmp_path):
    for _ in range(2):
        file = cached_gulliver(tmp_path / "cache", gutenberg.url)
    assert file.read_bytes() == FRAMED.encode("utf-8")
    assert len(gutenberg.requests) == 1 and "gulliver" in gutenberg.requests[0]
    book = load_book("gulliver", cache=tmp_path / "cache")
    assert book.text.startswith("A VOYAGE") and book.name == "gulliver"
    assert "not the file of 2023" in book.notes[0]  # another edition is a note, not an error


def test_a_page_that_is_not_the_book_is_not_kept(gutenberg, tmp_path):
    gutenberg.page = b"<html>You are a robot</html>"
    with pytest.raises(ValueError, match="not the book .* --text FILE"):
        cached_gulliver(tmp_path / "cache", gutenberg.url)
    assert not (tmp_path / "cache").exists()


def test_the_book_without_network(tmp_path):
    with pytest.raises(ConnectionError, match="cannot fetch the book .*--text FILE"):
        cached_gulliver(tmp_path, "http://127.0.0.1:9/pg829.txt")
