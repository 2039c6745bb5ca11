"""Book, tokenizer and batches."""

import hashlib
import json
import os
import pickle
import shutil
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import regex
import torch

from data.batches import sample_batch
from data.book import cached_gulliver, cut_frame, load_book
from data.download import cache_folder
from data.generators import BATCHES
from data.tokenizer import WORD_PATTERN, byte_alphabet, copy_tokenizer, load_tokenizer

FRAMED = (
    "\ufeffThe Project Gutenberg eBook of A Voyage\r\n\r\n*** START OF THE PROJECT GUTENBERG EBOOK A VOYAGE ***\r\n\r\n\r\n"
    "A VOYAGE\r\n\r\nWe sailed “at last”;\r\nand sank.\r\n\r\n*** END OF THE PROJECT GUTENBERG EBOOK A VOYAGE ***\r\nLicence\r\n"
)

# Batches


def test_inputs_and_targets_have_the_length_asked_for():
    inputs, targets = sample_batch(torch.arange(100, 200), batch_size=32, seq_len=7, seed=0, step=0)
    assert inputs.shape == targets.shape == (32, 7)


def test_inputs_are_a_piece_of_the_text():
    inputs, _ = sample_batch(torch.arange(100, 200), batch_size=32, seq_len=7, seed=0, step=0)
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(7)) and 100 <= inputs.min()


def test_targets_are_the_inputs_shifted_by_one():
    inputs, targets = sample_batch(torch.arange(100, 200), batch_size=32, seq_len=7, seed=0, step=0)
    assert torch.equal(targets, inputs + 1)


def batch(seed: int, step: int) -> str:
    return str(sample_batch(torch.arange(1000), 4, 8, seed, step)[0].tolist())


def test_the_same_seed_and_step_give_the_same_batch():
    expected = batch(3, 5)
    torch.manual_seed(1)
    np.random.seed(1)
    batch(3, 4)
    assert batch(3, 5) == expected


def test_another_step_gives_another_batch():
    assert len({batch(3, step) for step in range(4)}) == 4


def test_another_seed_gives_another_batch():
    assert len({batch(seed, 3) for seed in range(4)}) == 4


def test_no_two_pairs_of_seed_and_step_give_the_same_batch():
    assert len({batch(seed, step) for seed in range(4) for step in range(4)}) == 16


def test_a_batch_has_the_generator_of_batches(monkeypatch):
    asked = []
    monkeypatch.setattr("data.batches.generator", lambda *seed: asked.append(seed) or np.random.default_rng(seed))
    batch(3, 5)
    assert asked == [(BATCHES, 3, 5)]


def test_the_windows_of_a_batch_begin_at_different_places():
    inputs, _ = sample_batch(torch.arange(1000), 16, 4, seed=1, step=0)
    assert len(inputs[:, 0].unique()) > 10


def counts_of_starts() -> torch.Tensor:
    """How often each token of ten comes first in a window of 4 + 1: there are 6 such windows."""
    try:
        firsts = [sample_batch(torch.arange(10), 16, 4, seed=1, step=step)[0][:, 0] for step in range(500)]
    except RuntimeError:
        pytest.fail("a window goes beyond the end of the text")
    return torch.bincount(torch.cat(firsts), minlength=10)


def test_no_window_goes_beyond_the_end():
    assert counts_of_starts()[6:].sum() == 0


def test_the_first_and_the_last_window_can_come():
    counts = counts_of_starts()
    assert counts[0] > 0 and counts[5] > 0


def test_every_window_is_drawn_equally_often():
    counts, expected = counts_of_starts()[:6], 8000 / 6
    assert ((counts - expected) ** 2 / expected).sum() < 20  # chi-squared with 5 degrees of freedom: p = 0.001


def test_batches_are_int64_whatever_the_text_is_stored_as():
    inputs, targets = sample_batch(torch.arange(9, dtype=torch.int32), batch_size=2, seq_len=4, seed=0, step=0)
    assert inputs.dtype == targets.dtype == torch.int64


def test_a_text_of_one_window_is_long_enough():
    try:
        inputs, targets = sample_batch(torch.arange(5), batch_size=2, seq_len=4, seed=0, step=0)
    except ValueError:
        pytest.fail("a text of T + 1 tokens has one window")
    assert inputs.tolist() == [[0, 1, 2, 3]] * 2 and targets.tolist() == [[1, 2, 3, 4]] * 2


def test_a_text_shorter_than_a_window():
    with pytest.raises((ValueError, RuntimeError)) as error:
        sample_batch(torch.arange(5), 2, 5, 0, 0)
    assert "a window needs 6 tokens, the text has 5" in str(error.value)


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


def test_words_are_cut_as_gpt2_cuts_them():
    """By hand: a space belongs to the word after it, of several the last one; of two line ends the last stands alone."""
    words = ["I", "'ve", " 12", " ships", ",", "  ", " he", " said", ".", "\n", "\n", "Yes", " ", " —", "no"]
    assert regex.findall(WORD_PATTERN, "".join(words)) == words


@pytest.mark.parametrize("pairs_as", [list, " ".join])
def test_one_tokenizer_file_is_as_good_as_two(tmp_path, tokenizer_folder, pairs_as):
    """As the hub's library writes it today, with a token that somebody has added; and copied as the usual two."""
    two = load_tokenizer(tokenizer_folder)
    (tmp_path / "tokenizer.json").write_text(json.dumps(in_one_file(tokenizer_folder, pairs_as)), encoding="utf-8")
    copy_tokenizer(tmp_path, tmp_path / "copy")
    assert sorted(file.name for file in (tmp_path / "copy").iterdir()) == ["merges.txt", "vocab.json"]
    for folder in (tmp_path, tmp_path / "copy"):
        one = load_tokenizer(folder)
        assert (one.n_vocab, one.eot_token) == (300, 299)
        for text in ("the captain saw the island;\n", "“naïve” 日本 [PAD] <|endoftext|>"):
            assert one.encode_ordinary(text) == two.encode_ordinary(text)


def in_one_file(folder, pairs_as) -> dict:
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    added = [{"id": 299, "content": "<|endoftext|>", "special": True}, {"id": 300, "content": "[PAD]", "special": True}]
    words = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "vocab": vocab, "merges": [pairs_as(line.split(" ")) for line in lines]}
    return {"version": "1.0", "added_tokens": added, "normalizer": None, "pre_tokenizer": words, "model": model}


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": None},
        {"model": {"vocab": {}, "merges": []}},
        {"model": {"vocab": {"a": "x"}, "merges": []}},
        {"model": {"vocab": {"a": 1}, "merges": [3]}},
        {"model": {"vocab": {"a": 1}, "merges": [[1, 2]]}},
        {"model": {"vocab": {"a": 1}, "merges": [["a", "a", "a"]]}},
        {"model": {"vocab": {"a": 1}, "merges": ["a "]}},
        {"model": {"vocab": {"<s>": 1}, "merges": [["<s>", "<s>"]]}},
        {"added_tokens": 3},
    ],
)
def test_one_tokenizer_file_of_another_kind(tmp_path, tokenizer_folder, change):
    content = in_one_file(tokenizer_folder, list) | change
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match="are damaged .*GPT-2's kind|are damaged|is not bytes"):
        load_tokenizer(tmp_path)


def test_the_end_of_text_may_come_first(tmp_path, tokenizer_folder):
    """As in a vocabulary that was learned with `<|endoftext|>` named first: all ids are one higher."""
    vocab = json.loads((tokenizer_folder / "vocab.json").read_text(encoding="utf-8"))
    moved = {token: (number + 1) % 300 for token, number in vocab.items()}
    (tmp_path / "vocab.json").write_text(json.dumps(moved), encoding="utf-8")
    (tmp_path / "merges.txt").write_bytes((tokenizer_folder / "merges.txt").read_bytes())
    first, last = load_tokenizer(tmp_path), load_tokenizer(tokenizer_folder)
    assert first.eot_token == 0 and first.n_vocab == 300
    text = "the captain saw the island;\n"
    assert first.encode_ordinary(text) == [token + 1 for token in last.encode_ordinary(text)]


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
        {"edit_vocab": lambda v: v | {"PAD": 300}},
        {"edit_vocab": lambda v: v | {"[PAD]": 301}},
        {"edit_vocab": lambda v: {k: 269 if i == 270 else i for k, i in v.items()}},
        {"edit_vocab": lambda v: {k.replace("<|endoftext|>", "</s>"): i for k, i in v.items()}},
        {"edit_merges": lambda m: m + "é Ġ\n"},
        {"edit_vocab": lambda v: {k: {280: 281, 281: 280}.get(i, i) for k, i in v.items()}},
        {"edit_merges": lambda m: "\n".join(m.split("\n")[:-2])},
        {"edit_merges": lambda m: m.replace("\n", "\n\n", 2).replace(" ", "  ", 1)[:-20]},
    ):
        with pytest.raises(ValueError, match="is not bytes|are damaged"):
            load_tokenizer(copy(**damage))
    copy()
    (tmp_path / "vocab.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="damaged"):
        load_tokenizer(tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(FileNotFoundError, match="has no tokenizer; .*vocab.json and merges.txt"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("number", ["Infinity", "1.5", "1.0", "true", '"1"', "null", "NaN"])
def test_what_is_no_whole_number_is_no_id(tmp_path, tokenizer_folder, number):
    """Python would make 1 of most of them: the vocabulary would be in order again."""
    text = (tokenizer_folder / "vocab.json").read_text(encoding="utf-8").replace(": 1,", f": {number},")
    (tmp_path / "vocab.json").write_text(text, encoding="utf-8")
    (tmp_path / "merges.txt").write_bytes((tokenizer_folder / "merges.txt").read_bytes())
    with pytest.raises(ValueError, match="^.*tokenizer's files are damaged .* is no id.*; fetch them again$"):
        load_tokenizer(tmp_path)


# A vocabulary as the hub's course learns it: special tokens first, then the bytes of its texts alone, then the merges.
COURSE = ["<s>", "<|endoftext|>", "[PAD]", "a", "b", "c", "Ġ", "ab", "Ġab"]


@pytest.fixture
def course(tmp_path):
    words = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    added = [{"id": i, "content": COURSE[i], "special": True} for i in range(3)] + [{"id": 9, "content": "<later>"}]
    vocab = {token: i for i, token in enumerate(COURSE)}
    model = {"type": "BPE", "unk_token": None, "vocab": vocab, "merges": [["a", "b"], ["Ġ", "ab"]]}
    content = {"added_tokens": added, "normalizer": None, "pre_tokenizer": words, "model": model}
    folder = tmp_path / "course"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    copy_tokenizer(folder, tmp_path / "copy")
    return folder, tmp_path / "copy"


def test_a_vocabulary_without_bytes_that_its_texts_did_not_have(course):
    """By hand. A missing byte is left out before the merges: a and b around it become one token."""
    for folder in course:
        tokenizer = load_tokenizer(folder)
        assert (tokenizer.n_vocab, tokenizer.eot_token) == (9, 1)
        assert tokenizer.special_tokens_set == {"<s>", "<|endoftext|>", "[PAD]"}
        assert tokenizer.decode([0, 7, 2]) == "<s>ab[PAD]"
        for text, tokens in {"ab abc": [7, 8, 5], "aébXca": [7, 5, 3], "a!b": [3, 4], "é\n": [], "x\ud800": []}.items():
            assert tokenizer.encode_ordinary(text) == tokens, text
        text = "“ab”, a—b\n"
        left = tokenizer.decode_bytes(tokenizer.encode_ordinary(text))
        assert left == b"ab ab"
        assert pickle.loads(pickle.dumps(tokenizer)).encode_ordinary(text) == tokenizer.encode_ordinary(text)


# Book


def test_the_frame_is_cut_and_lines_end_in_lf(tmp_path):
    file = tmp_path / "voyage.txt"
    for end in ("\n", "\r", "\r\r\n", "\r\n"):
        content = FRAMED.replace("\r\n", end).encode("utf-8")
        file.write_bytes(content)
        book = load_book(file)
        assert book.text == "A VOYAGE\n\nWe sailed “at last”;\nand sank." and not book.notes, end
        assert book.name == "voyage" and not book.raw and book.sha256 == hashlib.sha256(content).hexdigest()
    raw = load_book(file, raw=True)
    assert raw.text == FRAMED[1:] and raw.raw and raw.sha256 == book.sha256  # all but the byte-order mark
    file.write_bytes("Größe\r\nund <html>".encode())  # without a frame it is kept whole
    book = load_book(file)
    assert book.text == "Größe\nund <html>" and not book.notes


HEADER, LICENCE = "The Project Gutenberg eBook of X\n\n", "\nProject Gutenberg's licence\n"
BODY = "A VOYAGE\n\nWe sailed."


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("*** START OF THE PROJECT GUTENBERG EBOOK X ***", "*** END OF THE PROJECT GUTENBERG EBOOK X ***"),
        ("***START OF THIS PROJECT GUTENBERG EBOOK X***", "***END OF THIS PROJECT GUTENBERG EBOOK X***"),
        (
            "*** START OF THE PROJECT GUTENBERG EBOOK X, OF\nWHICH THERE IS MORE ***",
            "*** END OF THE PROJECT GUTENBERG EBOOK X",
        ),
        ("*** Start of the Project Gutenberg eBook X ***", "*** End of the Project Gutenberg eBook X ***"),
        ("*** START OF THE PROJECT GUTENBERG ETEXT X ***", "End of Project Gutenberg's X, by Y"),
        ("START OF THE PROJECT GUTENBERG EBOOK X", "END OF THE PROJECT GUTENBERG EBOOK X"),
        ("*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*", "End of The Project Gutenberg Etext of X"),
        (
            "*END THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*\n\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n",
            "End of the Project Gutenberg EBook of X\n\n*** END OF THIS PROJECT GUTENBERG EBOOK X ***",
        ),
    ],
)
def test_the_frame_in_all_its_dresses(start, end):
    assert cut_frame(f"{HEADER}{start}\n\n{BODY}\n\n{end}\n{LICENCE}") == (BODY, [])


def test_half_a_frame_is_cut_and_said():
    for text, found in (
        (f"{HEADER}*** START OF THE PROJECT GUTENBERG EBOOK X ***\n{BODY}", "start"),
        (f"{BODY}\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\n{LICENCE}", "end"),
    ):
        body, [note] = cut_frame(text)
        assert body == BODY and f"only the {found} of a frame" in note


@pytest.mark.parametrize("length", [100, 9_000, 40_000])
def test_of_two_books_in_a_file_both_are_kept(length):
    def book(name):
        story = f"{name} " * (length // 6)
        frame = "OF THE PROJECT GUTENBERG EBOOK X ***\n"
        return f"{HEADER}*** START {frame}{story}\n*** END {frame}{LICENCE * 30}", story.strip()

    (first, story), (second, another) = book("first"), book("other")
    body, [note] = cut_frame(first + second)
    assert body.startswith(story) and body.endswith(another) and "a second book" in note
    assert "*** END OF THE PROJECT GUTENBERG EBOOK X ***" in note


def test_a_marker_that_is_quoted_cuts_nothing_away_unseen():
    quoted = "\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n"
    for word in ("START", "END"):
        within = "We sailed. " * 4000 + quoted.replace("START", word) + "We sank. " * 4000
        body, [note] = cut_frame(within)
        assert body == within.strip() and "still named" in note
    body, notes = cut_frame("We sailed." + quoted + "We sank.\n*** END OF THE PROJECT GUTENBERG EBOOK X ***")
    assert body == "We sank." and len(notes) == 1 and "do not look like" in notes[0]
    said = "He said *** START OF THE PROJECT GUTENBERG EBOOK X *** and laughed."
    assert cut_frame(said)[0] == said


def test_what_a_reader_should_know_of_a_text_is_noted(tmp_path):
    for text, note in (
        ("<!DOCTYPE html>\n<html><p>We sailed.", "page of HTML"),
        ("  <HTML lang=en>We sailed.", "page of HTML"),
        ("We sailed.<|endoftext|>We sank.", "read as these 13 characters"),
    ):
        (tmp_path / "text.txt").write_text(text, encoding="utf-8")
        for raw in (False, True):
            [found] = load_book(tmp_path / "text.txt", raw=raw).notes
            assert note in found
    half = f"{HEADER}*** START OF THE PROJECT GUTENBERG EBOOK X ***\n{BODY}"
    (tmp_path / "text.txt").write_text(half, encoding="utf-8")
    assert "only the start of a frame" in load_book(tmp_path / "text.txt").notes[0]
    assert not load_book(tmp_path / "text.txt", raw=True).notes


def test_a_text_may_come_from_a_pipe():
    reader, writer = os.pipe()
    os.write(writer, b"We sailed.")
    os.close(writer)
    assert load_book(f"/dev/fd/{reader}").text == "We sailed."
    os.close(reader)


def test_a_name_that_is_no_utf8_becomes_one(tmp_path):
    file = tmp_path / os.fsdecode(b"caf\xe9.txt")
    file.write_text("We sailed.", encoding="utf-8")
    assert load_book(file).name == "caf?"


def test_texts_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="no text '.*none.txt'"):
        load_book(tmp_path / "none.txt")
    with pytest.raises(FileNotFoundError, match="no text"):
        load_book(tmp_path)
    for content, complaint in (
        (b"caf\xe9", "not UTF-8"),
        (b"", "is empty"),
        (b" \r\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        ("We sailed.".encode("utf-16"), "not UTF-8"),
        ("We sailed.".encode("utf-16-le"), "NUL characters, as UTF-16 has"),
    ):
        for raw in (False, True):
            (tmp_path / "bad.txt").write_bytes(content)
            with pytest.raises(ValueError, match=complaint):
                load_book(tmp_path / "bad.txt", raw=raw)


@pytest.fixture
def gutenberg():
    """A server on this machine that sends whatever `page` holds, and notes how it was asked."""

    class State:
        page, missing, chunked, requests = FRAMED.encode("utf-8"), 0, False, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            State.requests.append(self.headers["User-Agent"])
            self.send_response(200)
            page = State.page
            if State.chunked:  # in one chunk; the empty one that ends it is missing with the rest
                self.send_header("Transfer-Encoding", "chunked")
                page = b"%x\r\n%b\r\n%b" % (len(page) + State.missing, page, b"" if State.missing else b"0\r\n\r\n")
            elif State.missing is not None:
                self.send_header("Content-Length", str(len(page) + State.missing))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    State.url = f"http://127.0.0.1:{server.server_port}/pg829.txt"
    yield State
    server.shutdown()
    server.server_close()


def test_the_book_is_fetched_once_and_cached_byte_for_byte(gutenberg):
    for _ in range(2):
        file = cached_gulliver(gutenberg.url)
    assert file.read_bytes() == FRAMED.encode("utf-8")
    assert len(gutenberg.requests) == 1 and "gulliver" in gutenberg.requests[0]
    book = load_book("gulliver")
    assert book.text.startswith("A VOYAGE") and book.name == "gulliver"
    assert "not the file of 2023" in book.notes[0]  # another edition is a note, not an error


def test_a_page_that_is_not_the_book_is_not_kept(gutenberg, tmp_path):
    gutenberg.page = b"<html>You are a robot</html>"
    with pytest.raises(ValueError, match="not the book .no Project Gutenberg markers.*--text FILE"):
        cached_gulliver(gutenberg.url)
    assert not (tmp_path / "cache").exists()


def test_a_book_that_breaks_off_is_not_kept(gutenberg, tmp_path):
    """It comes with its length, in chunks of which the last is empty, or until the connection ends."""
    whole = gutenberg.page
    for chunked, complaint in ((False, "10 more expected.*--text FILE"), (True, "IncompleteRead")):
        gutenberg.chunked, gutenberg.missing = chunked, 10
        with pytest.raises(ConnectionError, match=f"cannot fetch the book .*{complaint}"):
            cached_gulliver(gutenberg.url)
    gutenberg.chunked, gutenberg.missing = False, None
    gutenberg.page = whole[: whole.index(b"*** END")]
    with pytest.raises(ValueError, match="sent is not the book .it breaks off.*--text FILE"):
        cached_gulliver(gutenberg.url)
    assert not (tmp_path / "cache").exists()
    gutenberg.page = whole
    for chunked, missing in ((False, None), (True, 0)):
        gutenberg.chunked, gutenberg.missing = chunked, missing
        assert cached_gulliver(gutenberg.url).read_bytes() == whole
        shutil.rmtree(tmp_path / "cache")


def test_where_downloads_are_kept(monkeypatch, tmp_path):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "gulliver"
    for unset in (lambda: monkeypatch.setenv("XDG_CACHE_HOME", ""), lambda: monkeypatch.delenv("XDG_CACHE_HOME")):
        unset()
        with pytest.raises(FileNotFoundError, match="there is none; set XDG_CACHE_HOME"):
            load_book("gulliver")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_folder() == tmp_path / ".cache" / "gulliver"


def test_the_book_without_network(monkeypatch):
    with pytest.raises(ConnectionError, match="cannot fetch the book .*refused.*--text FILE"):
        cached_gulliver("http://127.0.0.1:9/pg829.txt")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(
        ConnectionError, match="a SOCKS proxy is set, which Python.s urllib does not use.; .*--text FILE"
    ):
        cached_gulliver("http://127.0.0.1:9/pg829.txt")
