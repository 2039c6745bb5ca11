"""What the report says that its numbers mean; `evaluate/measures/README.md` says it at length."""

from evaluate.measures.copying import LEAST

MEANINGS = (
    (
        "Held-out loss, perplexity",
        "How well the model foresees the part of the book that it was not trained on, in nats per token; the "
        "perplexity is its exponential. Lower is better, and no trick lowers it but learning how the book is written.",
    ),
    (
        "Ratio",
        "Of the tokens that the model writes, the share among the book's 100 most frequent. The goal is the book's own "
        "ratio, not 1: a model that writes “the the the” scores 1.",
    ),
    (
        "Expected ratio",
        "The probability that the model gave to those 100 tokens before one was drawn, averaged over the steps: the "
        "same quantity with less luck in it.",
    ),
    (
        "Divergence",
        "The Jensen-Shannon divergence between what the model writes and what the book holds, over the 100 tokens and "
        "“all others”, in bits: 0 where each is as frequent as in the book, 1 where nothing is common to both. The "
        "ratio alone rewards “the the the”; the divergence does not, for there “the” is far too frequent and all else "
        "too rare. Few tokens alone make it larger: a short held-out part may look farther from the book than a model "
        "that wrote much.",
    ),
    (
        "Copied share, longest copy",
        f"The share of the written tokens that lie in runs of at least {LEAST} tokens found word for word in the "
        "training text. The base model is the control: what it “copies” is chance, or was in its own training text.",
    ),
    (
        "Novelty",
        "The share of the n-grams, n = 1 to 10, that the training text does not have. The book's held-out part is the "
        "human line: a model well below it copies.",
    ),
    (
        "Extraction",
        "Shown a passage, the model goes on with the most likely tokens: the share of them that are the book's own at "
        "the same place. Where that is higher in the training text than in the held-out text, it recites.",
    ),
    (
        "KL to the base model, loss increase",
        "How far the tuned model's predictions have moved from the base model's, in nats per token, on texts that the "
        "base model wrote, and how much worse it foresees them: what was forgotten besides the book.",
    ),
    (
        "Repeated, distinct",
        "The share of 4-grams that occurred before in the same text, and the share of n-grams that are different ones: "
        "is there variety, or does it go round in circles? The book's own values are the yardstick; all distinct-n "
        "are over as many texts as the book's held-out part makes.",
    ),
    (
        "Perplexity under the base model",
        "How ordinary the written texts look to the untrained model: very low where it repeats itself, very high where "
        "it writes what is no English.",
    ),
    (
        "Intervals",
        "95 %, by bootstrap over whole texts, because the tokens of one text hang together. They hold for other texts "
        "of the same model, not for another training run: only further seeds show that.",
    ),
)
