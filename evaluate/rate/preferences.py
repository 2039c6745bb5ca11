"""The share of comparisons that each participant won, with its interval."""

from evaluate.intervals import wilson_interval
from evaluate.rate.contest import POINTS, QUESTIONS, compared, open_contest, sha256, shortage
from evaluate.results import Run
from evaluate.table import markdown


def preferences(runs: list[Run], ratings: list[dict]) -> dict:
    """The outcome of the blind comparison, as the report and the terminal show it, from what `read_ratings` returns.

    The intervals use the number of *different* comparisons: several ratings of the same two texts are no evidence about
    other texts. If two participants wrote the same text, its ratings count for both.

    Returns:
        untold: why there is no outcome, or ""; if "", also
        lead: what was counted and how, in words; titles: of the columns; notes: sentences;
        rows: the participant, then a `cell` for each question.
    """
    try:
        contest = open_contest(runs)
    except ValueError as error:
        return {"untold": f"The ratings cannot be shown: {error}."}
    written = {name: [sha256(text) for text in texts] for name, texts in contest.texts.items()}
    known = {(prompt, digest) for own in written.values() for prompt, digest in enumerate(own)}
    usable = [r for r in ratings if {(r["prompt"], r["left_sha256"]), (r["prompt"], r["right_sha256"])} <= known]
    left_out = len(ratings) - len(usable)
    note = f"Ratings left out because these runs have other texts now: {left_out}." if left_out else ""
    if not usable:
        return {"untold": f"No ratings of these texts yet. {note}".strip()}
    rows = []
    for name, own in written.items():
        left = [rating for rating in usable if rating["left_sha256"] == own[rating["prompt"]]]
        right = [rating for rating in usable if rating["right_sha256"] == own[rating["prompt"]]]
        different = len(set(map(compared, left + right)))
        rows.append([name])
        for question in QUESTIONS:
            points = [POINTS[rating["answers"][question]] for rating in left]
            points += [1 - POINTS[rating["answers"][question]] for rating in right]
            rows[-1].append(cell(points, different) if points else "–")
    different = len(set(map(compared, usable)))
    raters = ", ".join(sorted({rating["rater"] for rating in usable}))
    return {
        "untold": "",
        "lead": f"{different} different comparisons of two texts, blind. Raters: {raters}. Each column shows the share "
        "of comparisons won, where a tie counts as half a win, with its 95 % Wilson interval over different "
        "comparisons; then wins / ties / losses.",
        "titles": ["who wrote", *(f"{question}: {wording}" for question, wording in QUESTIONS.items())],
        "rows": rows,
        "notes": [*filter(None, (shortage(different, len(contest.texts)), note))],
    }


def cell(points: list[float], different: int) -> str:
    """The share won with its interval, and "wins / ties / losses", of the `points` won in `different` comparisons."""
    share = sum(points) / len(points)
    low, high = wilson_interval(share, different)
    counts = " / ".join(str(points.count(value)) for value in (1.0, 0.5, 0.0))
    return f"{100 * share:.0f} % ({100 * low:.0f} to {100 * high:.0f} %); {counts}"


def as_markdown(found: dict) -> str:
    """`preferences` for the terminal."""
    if found["untold"]:
        return found["untold"]
    return "\n".join([*markdown(found["titles"], found["rows"]), "", found["lead"], *found["notes"]])
