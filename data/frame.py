"""Cuts off Project Gutenberg's frame around a book, its header and footer, in all forms since 1991.

Today the markers are `*** START OF THE PROJECT GUTENBERG EBOOK TITLE ***` and the same with END, on one line or two.
Older markers say ETEXT or have no stars, or a special line ends the "small print" and "End of ..." follows the book.
"""

import re

GUTENBERG = r"(?:THE |THIS )?PROJECT GUTENBERG(?:'S|’S)?\b"
REST = r"(?:[^*\n]*(?:\n[^*\n]+)?\*\*\*|[^\n]*)"  # up to the stars on this line or the next, or the whole line
START = re.compile(
    rf"^[ \t]*(?:\*\*\* ?)?START OF {GUTENBERG}{REST}|^[ \t]*\*END\*? ?THE SMALL PRINT![^\n]*",
    re.IGNORECASE | re.MULTILINE,
)
END = re.compile(rf"^[ \t]*(?:\*\*\* ?)?END OF {GUTENBERG}[^\n]*", re.IGNORECASE | re.MULTILINE)
HEAD, FOOT = 30_000, 30_000  # characters that are searched; a header has 1,000 to 12,000, a footer some 19,000
CLOSE = 500  # characters between two end markers of one footer


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
