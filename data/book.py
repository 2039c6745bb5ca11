"""The text of the fine-tune: Project Gutenberg's *Gulliver's Travels*, or any UTF-8 file."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from data.download import cached_download
from data.flags import plain
from data.tokenizer import END_OF_TEXT

GULLIVER_URL = "https://www.gutenberg.org/cache/epub/829/pg829.txt"
# The file of 2023. Project Gutenberg corrects its texts now and then, so another digest is no error.
GULLIVER_SHA256 = "695e3237c3072d0d21a792aa1832f8494e734476a916d1a7fe3d5d6c6e9fc316"

VOYAGE = Path(__file__).parent / "voyage.txt"  # a tale written for this project; see README.md

# Project Gutenberg's frame around a book, its header and footer, in all forms since 1991. Today's is
# `*** START OF THE PROJECT GUTENBERG EBOOK TITLE ***` and the same with END, on one line or two. Older frames say
# ETEXT, have no stars, or have a line of their own at the end of the "small print" and "End of ..." after the book.
GUTENBERG = r"(?:THE |THIS )?PROJECT GUTENBERG(?:'S|’S)?\b"
REST = r"(?:[^*\n]*(?:\n[^*\n]+)?\*\*\*|[^\n]*)"  # up to the stars on this line or the next, or the whole line
START = re.compile(
    rf"^[ \t]*(?:\*\*\* ?)?START OF {GUTENBERG}{REST}|^[ \t]*\*END\*? ?THE SMALL PRINT![^\n]*",
    re.IGNORECASE | re.MULTILINE,
)
END = re.compile(rf"^[ \t]*(?:\*\*\* ?)?END OF {GUTENBERG}[^\n]*", re.IGNORECASE | re.MULTILINE)
HEAD, FOOT = 30_000, 30_000  # characters that are searched; a header has 1,000 to 12,000, a footer some 19,000
CLOSE = 500  # characters between two end markers of one footer


@dataclass(frozen=True)
class Book:
    """A text and where it came from."""

    name: str  # "gulliver", "voyage", or the file's name
    text: str
    sha256: str  # of the bytes as served, before anything was cut off
    raw: bool  # True: with frame and line ends as served
    notes: tuple[str, ...]  # what a reader of the results should know


def load_book(name_or_file: str | Path = "gulliver", *, raw: bool = False) -> Book:
    """Read a text for the fine-tune.

    By default Project Gutenberg's frame (licence and credits) is cut off and line ends become LF: in the file as
    served, CR and LF are the second and third most frequent tokens.

    Args:
        name_or_file: `gulliver`, downloaded once and cached; `voyage`, which is shipped; or a UTF-8 file, with or
            without a frame.
        raw: keep frame and line ends as served; only a byte-order mark is dropped.
    """
    notes = []
    if name_or_file in ("gulliver", "voyage") and Path(name_or_file).exists():
        notes.append(f"{name_or_file} is the course's text, not the file of this name; call that ./{name_or_file}")
    if name_or_file == "gulliver":
        file, name = cached_gulliver(), "gulliver"
    else:
        file = VOYAGE if name_or_file == "voyage" else Path(name_or_file)
        name = plain(file.stem)
        if not file.exists() or file.is_dir():  # a pipe is allowed, such as /dev/stdin
            raise FileNotFoundError(f"there is no text {str(file)!r}; use gulliver, voyage or the path of a UTF-8 file")
    content = file.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if name_or_file == "gulliver" and sha256 != GULLIVER_SHA256:
        notes.append(f"not the file of 2023 that the course's figures were measured on (sha256 {sha256[:12]}...)")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 (byte {error.start}); convert it, or name another --text") from None
    if "\0" in text:  # half of the bytes of an English text in UTF-16
        raise ValueError(f"{file} has NUL characters, as UTF-16 has; convert it to UTF-8, or name another --text")
    if re.match(r"\s*<(!doctype )?html", text, re.IGNORECASE):
        notes.append("the text is a page of HTML, and its tags are read as text")
    if END_OF_TEXT in text:
        notes.append(f"{END_OF_TEXT} in the text is read as these {len(END_OF_TEXT)} characters, not as a text's end")
    if not raw:
        # CR LF, CR CR LF, or CR (old Macs)
        text = re.sub(r"\r+\n?", lambda end: "\n" if end[0][-1] == "\n" else "\n" * len(end[0]), text)
        text, doubts = cut_frame(text)
        notes += doubts
    if not text.strip():
        raise ValueError(f"{file} is empty; name another --text")
    return Book(name, text, sha256, raw, tuple(notes))


def cached_gulliver(url: str = GULLIVER_URL) -> Path:
    """The downloaded book.

    Project Gutenberg blocks robots: never call this with the real `url` in a loop or a test.
    """

    def fault(content: bytes) -> str:
        text = content.decode("utf-8", errors="replace")
        if not START.search(text):
            return " (no Project Gutenberg markers in it)"
        return "" if END.search(text) else " (it breaks off: no end marker of Project Gutenberg's in it)"

    elsewhere = f"download {url} with a browser and name the file with --text FILE"
    return cached_download("pg829.txt", url, "the book", fault, elsewhere)


def cut_frame(text: str) -> tuple[str, list[str]]:
    """Return `text` without header, footer and blank lines at both ends, and notes for the reader about doubtful cuts.

    The lines of `text` end in LF. Only a header in the first HEAD characters and a footer in the last FOOT are cut off:
    elsewhere a marker may be quoted, or stand between two books.
    """
    starts = list(START.finditer(text, 0, HEAD))
    # One header may have two markers, one after the small print and one with stars. With an end marker between them
    # they belong to two books.
    header = starts[: 2 if len(starts) > 1 and not END.search(text, starts[0].end(), starts[1].start()) else 1]
    first = header[-1].end() if header else 0
    ends = [found.start() for found in END.finditer(text, max(first, len(text) - FOOT))]
    # One footer may have two markers, close together.
    last = next((end for end in ends if ends[-1] - end < CLOSE), len(text))
    notes = []
    if bool(starts) != bool(ends):
        found, cut = ("start", first) if starts else ("end", len(text) - last)
        notes.append(f"only the {found} of a frame as Project Gutenberg's was found: {cut:,} characters were cut off")
    elif starts and text[: starts[0].start()].strip() and "gutenberg" not in text[: starts[0].start()].lower():
        notes.append(f"{first:,} characters were cut off at the top, which do not look like Project Gutenberg's header")
    body = text[first:last].strip()
    if left := re.search(r"^.*project gutenberg.*$", body, re.IGNORECASE | re.MULTILINE):
        notes.append(
            f"Project Gutenberg is still named in the text (“{left[0].strip()[:60]}”): a second book, or its frame?"
        )
    return body, notes
