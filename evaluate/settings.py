"""What flags can say of how a model is measured. Nothing is imported here: `--help` does not wait for PyTorch."""

from dataclasses import dataclass

TRIAL = 100  # samples; with fewer a run is one, and measured with less effort

# Of a folder of runs.
REPORT_FILE = "report.html"
RATINGS_FILE = "ratings.jsonl"


@dataclass(frozen=True)
class Sampling:
    """How a model writes. The defaults are the exercise's own, but for the number of texts."""

    sequences: int = 256  # texts, each from a random token; the exercise writes 10
    new_tokens: int = 100  # in each text
    temperature: float = 1.0  # divides the logits; 0: always the most likely token
    top_k: int = 50  # drawn among so many most likely tokens; 0: among all
    seed: int = 0  # of start tokens and draws
