"""What a fine-tune depends on besides model, text and learning rate. The defaults are the exercise's own, but for one."""

from dataclasses import dataclass

from evaluate.settings import Sampling


@dataclass(frozen=True)
class Training:
    """A *sample* is one optimizer step on one batch of `batch_size` windows of `seq_len` tokens."""

    samples: int = 800  # 20 to 50 are a trial
    batch_size: int = 16  # windows
    seq_len: int = 256  # input tokens in a window
    weight_decay: float = 0.01  # AdamW's, of every parameter
    dropout: float = 0.0  # probability; GPT-2 was pretrained with 0.1
    holdout: float = 0.1  # share of the text, its end, that is measured and not trained on; the exercise has 0
    seed: int = 0  # of the batches and of dropout
    # How it is computed: the same numbers up to rounding.
    micro_batch: int | None = None  # windows computed together; None: the whole batch


@dataclass(frozen=True)
class Request:
    """What a command is asked for, apart from learning rates, seeds and places."""

    model: str = "gpt2"
    text: str = "gulliver"
    raw_text: bool = False
    general_text: str | None = None
    training: Training = Training()
    sampling: Sampling = Sampling()
    device: str = "auto"
    dtype: str = "auto"
    save_model: bool = True
