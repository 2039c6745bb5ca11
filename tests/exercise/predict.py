"""Predict twelve results before you see them, and say how sure you are.

python -m tests.exercise.predict
"""

import textwrap
import tomllib
from pathlib import Path

CERTAINTY = {"1": "A guess", "2": "Rather sure", "3": "Sure"}
LEAD = (
    "Twelve questions, five minutes. The runs fine-tune Lilliput, a small GPT-2, with AdamW on the first half of a "
    "short tale, with 4 windows of 128 tokens a step unless a question says otherwise. The second half is held out: "
    "measured, never trained on. Its loss before training is 3.682 nats per token. q ends early."
)


def questions() -> list[dict]:
    """The questions of predict.toml, in their order."""
    return tomllib.loads(Path(__file__).with_name("predict.toml").read_text(encoding="utf-8"))["question"]


def probability(key: str, options: int) -> float:
    """The probability of the chosen option out of `options`, from the key of the certainty."""
    return {"1": 1 / options, "2": 0.7, "3": 0.95}[key]


def brier(p: float, options: int, right: bool) -> float:
    """Return the sum over the options of (probability - outcome)^2: 0 is best, 2 worst (Brier 1950).

    The chosen option has the probability `p`; the others share the rest evenly. The outcome is 1 for what came out.
    """
    other = (1 - p) / (options - 1)
    if right:
        return (1 - p) ** 2 + (options - 1) * other**2
    return p**2 + (1 - other) ** 2 + (options - 2) * other**2


def show(text: str, indent: str = "") -> None:
    print(textwrap.fill(" ".join(text.split()), 100, initial_indent=indent, subsequent_indent=indent))


def typed(prompt: str, keys: str) -> str:
    """Ask until one of `keys` is typed; raises EOFError at q."""
    while True:
        key = input(f"{prompt} ").strip().lower()
        if key == "q":
            raise EOFError
        if len(key) == 1 and key in keys:
            return key
        print(f"Type one of {', '.join(keys)}, or q to end.")


def ask(question: dict) -> tuple[str, int, bool]:
    """Put one question; returns the key of the certainty, the number of options, and whether the answer was right."""
    letters = "abcd"[: len(question["options"])]
    show(question["text"])
    for letter, option in zip(letters, question["options"]):
        print(f"  {letter}  {option}")
    chosen = typed(f"What comes out ({', '.join(letters)})?", letters)
    sure = typed("How sure are you (1 a guess, 2 rather sure, 3 sure)?", "".join(CERTAINTY))
    right = chosen == question["right"]
    print("Right." if right else f"No: {question['right']}.")
    show(f"{question['file']}: {question['figure']}", "  ")
    show(question["why"], "  ")
    return sure, len(letters), right


def summary(answers: list[tuple[str, int, bool]]) -> str:
    """How many were right, the mean score beside two others, and how often each certainty was right."""
    score = sum(brier(probability(sure, n), n, right) for sure, n, right in answers) / len(answers)
    guessing = sum(brier(1 / n, n, True) for _, n, _ in answers) / len(answers)
    perfect = sum(brier(probability("3", n), n, True) for _, n, _ in answers) / len(answers)
    lines = [
        f"{sum(right for *_, right in answers)} of {len(answers)} right. Brier score {score:.3f}: the mean squared "
        "distance of your probabilities from what came out. Lower is better, and you can expect the lowest score if "
        f"you say how sure you really are. Guessing always gives {guessing:.3f}, being sure and right always "
        f"{perfect:.3f}."
    ]
    for key, words in CERTAINTY.items():
        of_key = [(probability(sure, n), right) for sure, n, right in answers if sure == key]
        if of_key:
            expected = f"{sum(p for p, _ in of_key):.1f} expected"
            lines.append(f"{words}: {len(of_key)} answers, {sum(right for _, right in of_key)} right, {expected}.")
    return "\n".join(textwrap.fill(line, 100) for line in lines)


def main() -> None:
    """Put all questions; at q, Ctrl-C or the end of the input the answers so far are counted."""
    answers, asked = [], questions()
    show(LEAD)
    try:
        for number, question in enumerate(asked, 1):
            print(f"\n{number} of {len(asked)}")
            answers.append(ask(question))
    except (EOFError, KeyboardInterrupt):
        print()
    print("\n" + summary(answers) if answers else "No question was answered.")


if __name__ == "__main__":
    main()
