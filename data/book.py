"""The text of the fine-tune: Project Gutenberg's *Gulliver's Travels*, or any UTF-8 file."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from data.download import cache_folder, cached_download
from data.frame import END, START, cut_frame
from data.tokenizer import END_OF_TEXT

GULLIVER_URL = "https://www.gutenberg.org/cache/epub/829/pg829.txt"
# The file of 2023. Project Gutenberg mends its texts now and then, so another digest is no error.
GULLIVER_SHA256 = "695e3237c3072d0d21a792aa1832f8494e734476a916d1a7fe3d5d6c6e9fc316"

VOYAGE = Path(__file__).parent / "voyage.txt"  # a tale written for this project; see README.md


@dataclass(frozen=True)
class Book:
    """A text and where it came from."""

    name: str  # "gulliver", "voyage", or the file's name
    text: str
    sha256: str  # of the bytes as served, before anything was cut
    raw: bool  # True: the frame and the CRLF are still there
    notes: tuple[str, ...]  # what a reader of the results should know


def load_book(name_or_file: str | Path = "gulliver", *, raw: bool = False, cache: Path | None = None) -> Book:
    """The text that is fine-tuned on.

    By default Project Gutenberg's frame (its licence and credits) is cut off and line ends become LF.
    It matters: as served, CR and LF are the book's 2nd and 3rd most frequent tokens.

    Args:
        name_or_file: `gulliver`, fetched once and cached; `voyage`, which is shipped; or a UTF-8 file,
            with or without the frame.
        raw: keep frame and line ends as served; only a byte-order mark is dropped.
        cache: folder for the download; `~/.cache/gulliver` by default.

    Raises:
        FileNotFoundError: there is no such file.
        ConnectionError: the book is not cached and cannot be fetched.
        ValueError: not UTF-8, empty, full of NUL, or the download is not the book.
    """
    notes = []
    if name_or_file == "gulliver":
        file, name = cached_gulliver(cache or cache_folder()), "gulliver"
    else:
        file = VOYAGE if name_or_file == "voyage" else Path(name_or_file)
        name = file.stem.encode("utf-8", "replace").decode("utf-8")  # a name that is no UTF-8 can be written nowhere
        if not file.exists() or file.is_dir():  # it may be a pipe, such as /dev/stdin
            raise FileNotFoundError(f"there is no text {str(file)!r}; use gulliver, voyage or the path of a UTF-8 file")
    content = file.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if name_or_file == "gulliver" and sha256 != GULLIVER_SHA256:
        notes.append(f"not the file of 2023 that the course's figures were measured on (sha256 {sha256[:12]}...)")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 (byte {error.start}); convert it, or name another --text") from None
    if "\0" in text:  # half of a UTF-16 text's bytes, and no book's
        raise ValueError(f"{file} has NUL characters, as UTF-16 has; convert it to UTF-8, or name another --text")
    if re.match(r"\s*<(!doctype )?html", text, re.IGNORECASE):
        notes.append("the text is a page of HTML, and its tags are read as text")
    if END_OF_TEXT in text:
        notes.append(f"{END_OF_TEXT} in the text is read as these {len(END_OF_TEXT)} characters, not as a text's end")
    if not raw:
        text, doubts = cut_frame(re.sub(r"\r*\n|\r", "\n", text))  # CRLF; CR CR LF; CR alone, of old Macs
        notes += doubts
    if not text.strip():
        raise ValueError(f"{file} is empty; name another --text")
    return Book(name, text, sha256, raw, tuple(notes))


def cached_gulliver(cache: Path, url: str = GULLIVER_URL) -> Path:
    """The downloaded book below `cache`; one plain request if it is not there yet.

    Project Gutenberg shuts robots out: never call this in a loop or a test with the real `url`.
    """

    def fault(content: bytes) -> str:
        text = content.decode("utf-8", errors="replace")
        if not START.search(text):
            return " (no Project Gutenberg markers in it)"
        return "" if END.search(text) else " (it breaks off: no end marker of Project Gutenberg's in it)"

    elsewhere = f"download {url} with a browser and name the file with --text FILE"
    return cached_download(cache / "pg829.txt", url, "the book", fault, elsewhere)
