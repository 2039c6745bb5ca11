"""Project Gutenberg's frame around a book, as it has been since 1991: found, cut off, and said where it is in doubt.

Today's is `*** START OF THE PROJECT GUTENBERG EBOOK TITLE ***` and the same with END, of one line or two. Older ones say
ETEXT, have no stars, or end their legal "small print" with a line of its own and the book with "End of ...".
"""

import re

GUTENBERG = r"(?:THE |THIS )?PROJECT GUTENBERG(?:'S|’S)?\b"
REST = r"(?:[^*\n]*(?:\n[^*\n]+)?\*\*\*|[^\n]*)"  # to the stars, at the end of this line or the next; or the line
START = re.compile(
    rf"^[ \t]*(?:\*\*\* ?)?START OF {GUTENBERG}{REST}|^[ \t]*\*END\*? ?THE SMALL PRINT![^\n]*",
    re.IGNORECASE | re.MULTILINE,
)
END = re.compile(rf"^[ \t]*(?:\*\*\* ?)?END OF {GUTENBERG}[^\n]*", re.IGNORECASE | re.MULTILINE)
HEAD, FOOT, CLOSE = 30_000, 30_000, 500  # characters; a header has some 1,000 to 12,000, a footer some 19,000


def cut_frame(text: str) -> tuple[str, list[str]]:
    """`text`, whose lines end in LF, without header, footer and blank lines at both ends; and notes on what is in doubt.

    A header ends in the first HEAD characters, a footer begins in the last FOOT: what looks like one elsewhere is kept,
    since it may be quoted, or be between two books.
    """
    starts = list(START.finditer(text, 0, HEAD))
    # A header may have two lines, of its small print and of stars; where a book ends between them they are two books'.
    header = starts[: 2 if len(starts) > 1 and not END.search(text, starts[0].end(), starts[1].start()) else 1]
    first = header[-1].end() if header else 0
    ends = [found.start() for found in END.finditer(text, max(first, len(text) - FOOT))]
    # A footer may have two as well, close together.
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
