"""Runs a small version of the README's experiment at three learning rates; prints losses and ratios as JSON."""

import json
import sys
from collections.abc import Sequence

from data.settings import Sampling
from train.experiment import experiment

LRS = (3e-3, 3e-4, 3e-5)


def main(lrs: Sequence[float]) -> None:
    sampling = Sampling(sequences=48, new_tokens=48, top_k=0)
    rows = []
    for lr in lrs:
        found = experiment(
            lr, samples=40, model="lilliput", text="voyage", batch_size=4, seq_len=128, holdout=0.5, sampling=sampling
        )
        after = found.after.ratio if found.after else None
        rows.append({"lr": lr, "losses": found.losses, "before": found.before.ratio, "after": after})
    print(json.dumps(rows))


if __name__ == "__main__":
    main(list(map(float, sys.argv[1:])) or LRS)
