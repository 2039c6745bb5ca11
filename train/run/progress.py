"""Shows the progress of a run: a bar in a terminal, elsewhere a line for each measurement; one line at the end."""

import time

import numpy as np
from tqdm import tqdm

from evaluate.results import EvalPoint, Run
from evaluate.verdicts import ended_early


class Progress:
    """The progress of one run: a bar in a terminal, which also says when the model is being measured.

    Args:
        label: of the run: its learning rate.
        steps: of the whole run.
        done: steps done before this start of the run.
    """

    def __init__(self, label: str, steps: int, done: int = 0):
        self.label, self.steps, self.done, self.first = label, steps, done, done
        self.began, self.losses, self.shown = time.monotonic(), [], {}
        # disable=None: no bar if standard error is not a terminal.
        self.bar = tqdm(total=steps, initial=done, unit="step", leave=False, disable=None)
        self.bar.set_description(f"training at {label}")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()

    def trained(self, loss: float) -> None:
        """One more step is done; `loss` in nats per token."""
        self.done += 1
        self.losses.append(loss)
        self.shown["loss"] = f"{loss:.3f}"
        self.bar.set_postfix(self.shown, refresh=False)
        self.bar.update()

    def measuring(self) -> None:
        self.bar.set_description(f"measuring at {self.label}")

    def measured(self, point: EvalPoint) -> None:
        """Show what was measured after the steps done so far, with the mean training loss since the last time."""
        words = [f"{self.label} step {self.done}/{self.steps}"]
        if self.losses:
            words.append(f"training {np.mean(self.losses):.2f}")
        if "held_out_loss" in point:
            words.append(f"held-out {point['held_out_loss']:.2f}")
            self.shown["held-out"] = f"{point['held_out_loss']:.3f}"
        if self.first < self.done < self.steps:
            seconds = (time.monotonic() - self.began) / (self.done - self.first) * (self.steps - self.done)
            words.append(f"{duration(seconds)} left")
        if self.bar.disable:
            print("  ".join(words), flush=True)
        self.losses.clear()
        self.bar.set_description(f"training at {self.label}")


def duration(seconds: float) -> str:
    """Seconds with about two digits: 12 s, 14 min, 2.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def summed_up(run: Run) -> str:
    """One line on a run that has finished and not diverged."""
    seconds = run.result["environment"]["seconds"]
    words = [f"training loss {run.train_loss[0]:.3f} -> {run.last_loss:.3f}"]
    if held_out := run.held_out:
        step, lowest = run.lowest_held_out
        words.append(f"held-out {held_out[0][1]:.3f} -> {held_out[-1][1]:.3f} (lowest {lowest:.3f} at step {step})")
    words.append(f"ratio {run.before['ratio']:.3f} -> {run.after['ratio']:.3f}")
    early = ended_early(run)
    end = f"ended early {early[0]}, in" if early else "done in"
    return f"{run.label} {end} {duration(sum(seconds.values()) - seconds['before'])}: {', '.join(words)}"
