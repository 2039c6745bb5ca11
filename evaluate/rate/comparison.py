"""A blind comparison: which continuation is better, if nobody knows who wrote it?

python -m evaluate.rate runs/demo
python -m evaluate.rate runs/demo --results
"""

import getpass
import hashlib
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations, zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evaluate.flags import Parser, positive_int, whole_number
from evaluate.rate.page import page
from evaluate.rate.statistics import FEW, POINTS, QUESTIONS, summary
from evaluate.results import describe, find_results, lr_label

RATINGS_FILE = "ratings.jsonl"
WORDING = {
    "coherence": "which holds together better?",
    "style": "which goes on more as the prompt began?",
    "originality": "which has more ideas of its own?",
}
KEYS = "l: left, r: right, t: tie; b: back, the previous answer again; q: quit, all finished pairs are saved"
# What tells one comparison of one rater from all others; the second row stands in the lines of a page.
IDENTITY = ("rater", "prompt", "left", "right", "repeat", "left_sha256", "right_sha256")
IDENTITY += ("seed", "pairs", "number")


@dataclass(frozen=True)
class Contest:
    """Who takes part: the base model, every learning rate and the book."""

    prompts: list[str]
    texts: dict[str, list[str]]  # {participant: its continuation of each prompt}; the base model comes first


class Comparison(NamedTuple):
    prompt: int  # its number
    left: str
    right: str
    repeat: bool  # shown before, with the sides swapped


def open_contest(results: list[dict]) -> Contest:
    """The participants of `results` (see `find_results`); of several seeds of a learning rate the lowest.

    Raises:
        ValueError: they have no continuations, or not of the same prompts, or there is nobody to compare with.
    """
    base = results[0]
    written = {"base": base["before"]}
    for result in sorted(results, key=lambda result: (-result["lr"], result["seed"])):
        name = lr_label(result["lr"])
        evaluations = [result["before"], *([result["after"]] if result["after"] else [])]
        if not result.get("prompts") or not all(evaluation.get("continuations") for evaluation in evaluations):
            raise ValueError(f"the run at {name} has no continuations to compare, it is an older result; run it again")
        if result["prompts"] != base["prompts"]:
            raise ValueError(f"the run at {name} has other prompts than that at {lr_label(base['lr'])}; name one sweep")
        if result["after"]:
            written.setdefault(name, result["after"])
    if (base.get("book") or {}).get("continuations"):
        written["book"] = base["book"]
    texts = {name: ["".join(c["pieces"]) for c in written[name]["continuations"]] for name in written}
    if len(texts) < 2:
        raise ValueError(f"only one participant ({', '.join(texts)}), nothing to compare with; name a finished run")
    for name, continuations in texts.items():
        if len(continuations) != len(base["prompts"]):
            raise ValueError(
                f"{name} has {len(continuations)} continuations of {len(base['prompts'])} prompts; run it again"
            )
    return Contest(base["prompts"], texts)


def draw_comparisons(names: Iterable[str], prompts: int, pairs: int, seed: int = 0) -> list[Comparison]:
    """What is compared, in this order; the same for every rater of one `seed`.

    Every pair of participants and every prompt occurs equally often (or once more), and no comparison twice but
    the repeats: about one in six, at least one, each with its sides swapped and another one or more between.

    Args:
        prompts: how many there are.
        pairs: comparisons, repeats included; fewer are drawn where no more are possible.

    Raises:
        ValueError: `pairs` is below 3, too few for a repeat.
    """
    if pairs < 3:
        raise ValueError(f"--pairs {pairs} leaves no room for a pair that comes twice; use 3 or more")
    rng = np.random.default_rng([7, seed])  # 7: the generator of this order
    matches = list(combinations(names, 2))
    possible = len(matches) * prompts
    repeats = max(1, round(min(pairs / 6, possible / 5)))
    different = min(pairs - repeats, possible)
    # Match k % M and prompt k % P, k = 0, 1 ...: both stay balanced at every k. After lcm(M, P) of them the same
    # combinations would come again, so from there on the prompts go one further.
    once_round = int(np.lcm(len(matches), prompts))
    match_order, prompt_order = rng.permutation(len(matches)), rng.permutation(prompts)
    drawn = []
    for k in range(different):
        sides = matches[match_order[k % len(matches)]]
        prompt = int(prompt_order[(k + k // once_round) % prompts])
        drawn.append(Comparison(prompt, *(sides if rng.random() < 0.5 else sides[::-1]), False))
    if different < 2:
        return drawn  # nothing could stand between the one and its repeat
    # The turns of the matches go on with the repeats, so that all comparisons together are balanced.
    turns, repeated = min(len(matches), different), []
    for k in range(different, different + repeats):
        candidates = [comparison for comparison in drawn[k % turns :: turns] if comparison not in repeated]
        repeated.append(candidates[rng.integers(len(candidates))])
    # What comes last could not come again with another in between.
    last = rng.choice([k for k in range(different) if drawn[k] not in repeated])
    order = [drawn[k] for k in rng.permutation(different) if k != last] + [drawn[last]]
    for comparison in repeated:
        place = rng.integers(order.index(comparison) + 2, len(order) + 1)
        order.insert(place, Comparison(comparison.prompt, comparison.right, comparison.left, True))
    return order


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def checksums(contest: Contest, prompt: int, left: str, right: str) -> dict[str, str]:
    """Of the two texts, so that no rating outlives what was rated."""
    return {
        "left_sha256": sha256(contest.texts[left][prompt]),
        "right_sha256": sha256(contest.texts[right][prompt]),
    }


def read_ratings(files: Iterable[str | Path]) -> list[dict]:
    """The ratings in `files`; where one was given twice (the reader went back) the later counts.

    A last line that was torn by an interruption is left out, with a note. The lines of a page name no
    participants, and texts may have changed: `usable_ratings` sees to both.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a line is not a rating.
    """
    ratings = []
    for file in map(Path, files):
        if not file.is_file():
            raise FileNotFoundError(f"no ratings in {file}; answer some first: python -m evaluate.rate RUNS")
        lines = file.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    ratings.append(parse_rating(line))
                except ValueError:
                    if number < len(lines):
                        raise ValueError(f"{file}, line {number} is not a rating; delete the line") from None
                    print(f"note: the last line of {file} is torn and left out; that pair is open", file=sys.stderr)
    return latest(ratings)


def parse_rating(line: bytes) -> dict:
    """Raises ValueError if `line` is not a rating."""
    rating = json.loads(line)
    if not isinstance(rating, dict) or not isinstance(rating.get("answers"), dict):
        raise ValueError
    known = {"rater": str, "left_sha256": str, "right_sha256": str}
    known |= (
        {"number": int, "pairs": int, "seed": int}
        if "number" in rating
        else {"prompt": int, "left": str, "right": str, "repeat": bool}
    )
    if not all(isinstance(rating.get(key), kind) for key, kind in known.items()):
        raise ValueError
    if not all(rating["answers"].get(question) in [*POINTS] for question in QUESTIONS):
        raise ValueError
    return rating


def latest(ratings: Iterable[dict]) -> list[dict]:
    """Of ratings of the same comparison by the same rater the last."""
    return list({tuple(rating.get(key) for key in IDENTITY): rating for rating in ratings}.values())


def usable_ratings(ratings: list[dict], contest: Contest) -> tuple[list[dict], list[str]]:
    """The `ratings` whose texts are still those of `contest`, a page's lines with their participants; and notes."""
    usable = [rating for rating in (with_names(rating, contest) for rating in ratings) if is_of(rating, contest)]
    left_out = len(ratings) - len(usable)
    notes = [f"{left_out} ratings are of other texts than these runs have now; they are left out"] if left_out else []
    return latest(usable), notes


def with_names(rating: dict, contest: Contest) -> dict:
    """`rating`; if it is a page's, with what its seed and number stand for, where they stand for something."""
    if "number" not in rating or rating["pairs"] < 3 or rating["seed"] < 0:
        return rating
    order = draw_comparisons(contest.texts, len(contest.prompts), rating["pairs"], rating["seed"])
    if not 0 <= rating["number"] < len(order):
        return rating
    own = {key: value for key, value in rating.items() if key not in ("seed", "pairs", "number")}
    return own | order[rating["number"]]._asdict()


def is_of(rating: dict, contest: Contest) -> bool:
    """Whether both texts that were rated are still those of `contest`."""
    if not {rating.get("left"), rating.get("right")} <= contest.texts.keys():
        return False
    if not 0 <= rating["prompt"] < len(contest.prompts):
        return False
    expected = checksums(contest, rating["prompt"], rating["left"], rating["right"])
    return expected == {key: rating[key] for key in expected}


def mend(file: Path) -> None:
    """Make `file` end with a whole line, so that the next one does not continue a torn one."""
    lines = file.read_bytes().split(b"\n")
    try:
        whole = not lines[-1] or bool(parse_rating(lines[-1]))
    except ValueError:
        whole = False
    if not whole:
        os.truncate(file, file.stat().st_size - len(lines[-1]))
    elif lines[-1]:
        with file.open("a", encoding="utf-8") as end:
            end.write("\n")


def session(
    comparisons: list[Comparison],
    contest: Contest,
    done: dict[int, list[str]],
    save: Callable[[Comparison, list[str]], None],
    ask: Callable[[str], str],
    show: Callable[[str], None],
) -> None:
    """Ask for what is open until nothing is, or the reader quits.

    Args:
        done: answers by the number of the comparison, in the order of QUESTIONS; filled in.
        save: called with every answered comparison and its answers, again when a reader went back.
        ask: shows a question and returns what was typed, as `input` does.
        show: shows a text.
    """
    number, given, shown = first_open(comparisons, done), [], None
    while number is not None:
        comparison = comparisons[number]
        if number != shown:
            show(f"\n{f' {number + 1} of {len(comparisons)} ':-^60}\n")
            show(as_shown(contest, comparison, shutil.get_terminal_size().columns))
            shown = number
        question = QUESTIONS[len(given)]
        key = ask(f"{question}: {WORDING[question]} [l, r, t] ").strip().lower()
        if key == "q":
            return
        if key in POINTS:
            given = [*given, key]
        elif key == "b" and given:
            given = given[:-1]
        elif key == "b" and number > 0:  # everything before an open comparison is answered
            number -= 1
            given = done[number][:-1]
        else:
            show("This is the first answer." if key == "b" else KEYS)
        if len(given) == len(QUESTIONS):
            save(comparison, given)
            done[number] = given
            number, given = first_open(comparisons, done), []


def first_open(comparisons: list[Comparison], done: dict[int, list[str]]) -> int | None:
    return next((number for number in range(len(comparisons)) if number not in done), None)


def as_shown(contest: Contest, comparison: Comparison, width: int) -> str:
    """Prompt and both continuations in two columns, `width` characters in all, and no word of who wrote them."""
    column = max(20, (width - 3) // 2)
    texts = (contest.texts[name][comparison.prompt] for name in (comparison.left, comparison.right))
    left, right = (["LEFT" if i == 0 else "RIGHT", "", *wrapped(text, column)] for i, text in enumerate(texts))
    rows = (f"{a:<{column}} | {b}".rstrip() for a, b in zip_longest(left, right, fillvalue=""))
    return "\n".join([*wrapped(contest.prompts[comparison.prompt], 2 * column + 3), "", *rows, ""])


def wrapped(text: str, width: int) -> list[str]:
    return [row for paragraph in readable(text).split("\n") for row in textwrap.wrap(paragraph, width) or [""]]


def readable(text: str) -> str:
    """`text` without its line ends, which the book has and columns have no room for; paragraphs stay apart."""
    # A model may write any character, and some of them would command the terminal.
    plain = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    paragraphs = (" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", plain))
    return "\n\n".join(filter(None, paragraphs))


def rate(contest: Contest, comparisons: list[Comparison], rater: str, file: Path) -> None:
    """One sitting of `rater` in the terminal; the answers go to `file`, after those that are there.

    Raises:
        ValueError, OSError: `file` is damaged or cannot be written to.
    """
    earlier, notes = usable_ratings(read_ratings([file]) if file.exists() else [], contest)
    for note in notes:
        print(f"note: {note}")
    answered = {tuple(r[key] for key in Comparison._fields): r["answers"] for r in earlier if r["rater"] == rater}
    done = {n: [answered[c][q] for q in QUESTIONS] for n, c in enumerate(comparisons) if c in answered}
    with file.open("a", encoding="utf-8") as ratings:
        mend(file)

        def save(comparison: Comparison, given: list[str]) -> None:
            rating = {"rater": rater} | comparison._asdict() | {"answers": dict(zip(QUESTIONS, given))}
            rating |= checksums(contest, *comparison[:3])
            rating["time"] = datetime.now(UTC).isoformat(timespec="seconds")
            ratings.write(json.dumps(rating) + "\n")
            ratings.flush()
            os.fsync(ratings.fileno())

        print(f"{len(comparisons)} comparisons, {len(done)} of them answered. {KEYS}.")
        try:
            session(comparisons, contest, done, save, input, print)
        except (KeyboardInterrupt, EOFError):
            print()
    print(f"{len(done)} of {len(comparisons)} answered and saved.", end=" ")
    print("The same command goes on." if len(done) < len(comparisons) else "Who wrote what: --results.")


def on_page(contest: Contest, comparisons: list[Comparison]) -> list[dict]:
    """What a page has to know of each comparison; whose texts they are is not among it."""
    shown = []
    for prompt, left, right, _ in comparisons:
        texts = {
            "prompt": contest.prompts[prompt],
            "left": contest.texts[left][prompt],
            "right": contest.texts[right][prompt],
        }
        texts = {place: readable(text) for place, text in texts.items()}
        shown.append(texts | checksums(contest, prompt, left, right))
    return shown


def results_text(found: dict, title: str) -> str:
    """The `summary` as Markdown."""
    if not found["ratings"]:
        return f"{title}\n\nNo ratings of these texts yet.\n"
    rows = [["question", "participant", "wins / ties / losses", "share won (95 %)", "score (95 %)"], ["---"] * 5]
    for question, standings in found["questions"].items():
        for name, standing in standings.items():
            counts = f"{standing['wins']} / {standing['ties']} / {standing['losses']}"
            share = score = ""
            if standing["comparisons"]:
                share = "{:.2f} ({:.2f} to {:.2f})".format(standing["share"], *standing["share_ci"])
                score = f"{standing['score']:+.2f}"
            if standing["score_ci"]:
                score += " ({:+.2f} to {:+.2f})".format(*standing["score_ci"])
            rows.append([question, name, counts, share, "0" if name == next(iter(standings)) else score])
    lines = [title, "", *(f"| {' | '.join(row)} |" for row in rows), ""]
    lines.append(
        f"{found['comparisons']} different comparisons, raters: {', '.join(found['raters'])}. Ties count half; Wilson "
        "interval over different comparisons. Score: Bradley-Terry log-strength relative to base (1 is odds of 2.7 to "
        "1), with half a win and half a loss against an average opponent; bootstrap interval over comparisons, too "
        "narrow for who always wins or loses.\n"
    )
    if found["few"]:
        lines.append(f"- These are few answers (below {FEW} comparisons of a participant): expect much to be chance.")
    for rater, own in found["consistency"].items():
        lines.append(
            f"- {rater} was shown {own['pairs']} pairs twice and gave the same answer {own['same']} of "
            f"{own['answers']} times ({own['share']:.0%})."
        )
    for question, shared in (found["agreement"] or {}).items():
        alpha = "undefined" if shared["alpha"] is None else f"{shared['alpha']:.2f}"
        lines.append(
            f"- Agreement between raters on {question}: Krippendorff's alpha {alpha} over {shared['comparisons']} "
            "comparisons (1: perfect, 0: chance)."
        )
    return "\n".join(lines) + "\n"


def login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # nobody is logged in, as in a container
        return "reader"


def main() -> None:
    parser = Parser(
        prog="python -m evaluate.rate",
        description="Compare what the models and the book say after the same prompts without knowing who wrote what. "
        f"Answers are kept in {RATINGS_FILE} in the first of RUNS; the same command goes on where you left.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="run folders or sweep folders")
    parser.add_argument(
        "--pairs",
        type=positive_int,
        default=24,
        metavar="N",
        help="comparisons, about one in six a repeat (default: %(default)s)",
    )
    parser.add_argument("--rater", default=login_name(), metavar="NAME", help="who answers (default: your login name)")
    parser.add_argument(
        "--seed",
        type=whole_number,
        default=0,
        metavar="N",
        help="of the order, the sides and the repeats; raters with the same seed compare the same texts "
        "(default: %(default)s)",
    )
    parser.add_argument("--results", action="store_true", help="say who wrote what, and who won")
    parser.add_argument(
        "--ratings",
        nargs="+",
        metavar="FILE",
        help=f"with --results: the ratings, downloaded ones too (default: {RATINGS_FILE} in the first of RUNS)",
    )
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the comparison as a web page to send round")
    args = parser.parse_args()
    file = Path(args.runs[0]) / RATINGS_FILE
    try:
        if args.ratings and not args.results:
            raise ValueError("--ratings goes with --results; add it")
        results = find_results(args.runs)
        contest = open_contest(results)
        comparisons = draw_comparisons(contest.texts, len(contest.prompts), args.pairs, args.seed)
        if args.results:
            ratings, notes = usable_ratings(read_ratings(args.ratings or [file]), contest)
            for note in notes:
                print(f"note: {note}", file=sys.stderr)
            title = f"Blind comparison: {describe(results)}."
            print(results_text(summary(ratings, list(contest.texts)), title), end="")
            return
        if len(comparisons) < args.pairs:
            print(f"note: these texts allow {len(comparisons)} comparisons, not {args.pairs}")
        if args.page:
            args.page.write_text(page(on_page(contest, comparisons), WORDING, args.seed, args.pairs), encoding="utf-8")
            print(args.page)
        else:
            rate(contest, comparisons, args.rater, file)
    except (OSError, ValueError) as error:
        parser.error(str(error))
