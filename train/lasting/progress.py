"""What a run shows: one bar on a terminal, elsewhere a plain line for each measurement; when it is done, one line."""

import time

import numpy as np
from tqdm import tqdm

from evaluate.results import Checkpoint, Result, final_loss, lowest_held_out


class Progress:
    """The training of one run. While a measurement is under way the bar says so: there is no second one.

    Args:
        label: of the run: its learning rate.
        samples: of the whole run.
        done: so many of them by an earlier start of it.
    """

    def __init__(self, label: str, samples: int, done: int = 0):
        self.label, self.samples, self.done, self.first = label, samples, done, done
        self.began, self.losses, self.shown = time.monotonic(), [], {}
        # disable=None: none where standard error is no terminal.
        self.bar = tqdm(total=samples, initial=done, unit="sample", leave=False, disable=None)
        self.bar.set_description(f"training at {label}")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()

    def trained(self, loss: float) -> None:
        """One more sample is done; its loss in nats per token."""
        self.done += 1
        self.losses.append(loss)
        self.shown["loss"] = f"{loss:.3f}"
        self.bar.set_postfix(self.shown, refresh=False)
        self.bar.update()

    def measuring(self) -> None:
        self.bar.set_description(f"measuring at {self.label}")

    def measured(self, checkpoint: Checkpoint) -> None:
        """Show what was measured after the samples done so far, with the mean training loss since the last time."""
        words = [f"{self.label} sample {self.done}/{self.samples}"]
        if self.losses:
            words.append(f"training {np.mean(self.losses):.2f}")
        if "held_out_loss" in checkpoint:
            words.append(f"held-out {checkpoint['held_out_loss']:.2f}")
            self.shown["held-out"] = f"{checkpoint['held_out_loss']:.3f}"
        if self.first < self.done < self.samples:
            seconds = (time.monotonic() - self.began) / (self.done - self.first) * (self.samples - self.done)
            words.append(f"{duration(seconds)} left")
        if self.bar.disable:
            print("  ".join(words), flush=True)
        self.losses.clear()
        self.bar.set_description(f"training at {self.label}")


def duration(seconds: float) -> str:
    """Two digits or so: 12 s, 14 min, 2.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def summed_up(label: str, result: Result) -> str:
    """One line on a run that has finished and not diverged."""
    seconds = result["environment"]["seconds"]
    words = [f"training loss {result['train_loss'][0]:.3f} to {final_loss(result):.3f}"]
    if held_out := result["held_out_loss"]:
        sample, lowest = lowest_held_out(result)
        words.append(f"held-out {held_out[0][1]:.3f} to {held_out[-1][1]:.3f} (lowest {lowest:.3f} at sample {sample})")
    words.append(f"ratio {result['before']['ratio']:.3f} to {result['after']['ratio']:.3f}")
    return f"{label} done in {duration(sum(seconds.values()) - seconds['before'])}: {', '.join(words)}"
