"""What is measured, and what was aimed at."""

import torch

from model.gpt2 import GPT2Config

TRAIN = {"work": "train", "batch_size": 16, "seq_len": 256}
GENERATE = {"work": "generate", "new_tokens": 100}
ADAMW = {"work": "adamw", "dtype": "float32"}

DEFAULT_STEP = "training step, default settings, against float32"
START = "start to first training step, cached model"
HELP = "`--help` of `python -m train`, warm, seconds"
REFUSAL = "`--lr nan` refused, seconds"
TRIAL = "a trial (`--samples 20`): share of its time that is not training"
RUN = "a whole default run: share of its time that is not training"

# (name, ours, theirs): the ratio is their time over ours. "auto" is the dtype that is fastest here.
PAIRS = (
    (DEFAULT_STEP, TRAIN | {"dtype": "auto"}, TRAIN | {"dtype": "float32"}),
    *(
        (
            f"training step, default settings, against {name}",
            TRAIN | {"dtype": "auto"},
            TRAIN | {"dtype": "auto"} | peer,
        )
        for name, peer in (
            ("transformers with torch.compile", {"compile": True}),
            ("a step with nanoGPT's settings", {"compile": True, "plain_model": True}),
        )
    ),
    ("training step, bfloat16, against autocast", TRAIN | {"dtype": "bfloat16"}, TRAIN | {"dtype": "bfloat16"}),
    ("training step, float32", TRAIN | {"dtype": "float32"}, TRAIN | {"dtype": "float32"}),
    *(
        (
            f"generation {rows} x 100, {ours}, against {theirs}",
            GENERATE | {"dtype": ours, "sequences": rows},
            GENERATE | {"dtype": theirs, "sequences": rows},
        )
        for ours, theirs in (("auto", "float32"), ("bfloat16", "bfloat16"), ("float32", "float32"))
        for rows in (10, 64)
    ),
    ("AdamW step, against torch's fused one", ADAMW, ADAMW),
)
AIMS = {
    DEFAULT_STEP: 6,
    "training step, default settings, against transformers with torch.compile": 1,
    "training step, default settings, against a step with nanoGPT's settings": 1,
    "generation 10 x 100, auto, against float32": 6,
    "generation 64 x 100, auto, against float32": 6,
    START: 4,
}
AT_MOST = {HELP: 1.0, REFUSAL: 1.0, TRIAL: 1 / 3, RUN: 0.05}
PEAK_SHARE, STEP_BYTES = 0.45, 3.5e9  # of the default step in bfloat16

# Ours alone: does the cost grow as it must? A model's size is n_layer x n_embd.
SCALING = (
    *(("samples", n, TRAIN | {"dtype": "auto", "batch_size": 4, "samples": n}) for n in (1, 2, 4)),
    *(("batch size", B, TRAIN | {"dtype": "auto", "batch_size": B}) for B in (4, 8, 16)),
    *(("window length", T, TRAIN | {"dtype": "auto", "batch_size": 4, "seq_len": T}) for T in (128, 256, 512)),
    *(("micro-batch", n, TRAIN | {"dtype": "auto", "micro_batch": n}) for n in (1, 2, 4, 8)),
    *(
        ("model size", size, TRAIN | {"dtype": "auto", "batch_size": 4, "size": size})
        for size in ("6x384", "12x768", "24x1024")
    ),
    *(("new tokens", n, GENERATE | {"dtype": "auto", "sequences": 10, "new_tokens": n}) for n in (50, 100, 200)),
)


def step_flops(config: GPT2Config, B: int, T: int) -> float:
    """FLOP of the matrix products in one training step: forward, and twice that backward.

    Two for each weight of a layer (12 C^2) and of the head (V C) and each token, and 4 T C for each
    token and layer in the attention (counted whole, as it is computed without a causal shortcut).
    """
    weights = config.n_layer * 12 * config.n_embd**2 + config.vocab_size * config.n_embd
    return 3 * B * T * (2 * weights + config.n_layer * 4 * T * config.n_embd)


# Of a step: (part, operations of PyTorch whose time it is). The optimizer's are timed as a whole.
PARTS = (
    ("matrix products", ("mm", "addmm", "linear")),
    (
        "attention",
        (
            "_scaled_dot_product_flash_attention_for_cpu",
            "_scaled_dot_product_flash_attention_for_cpu_backward",
            *("baddbmm", "bmm", "_softmax", "mul", "div", "sub", "mean"),  # in bfloat16, a window at a time
        ),
    ),
    ("GELU and its gradient", ("gelu", "gelu_backward")),
    ("norms", ("native_layer_norm", "native_layer_norm_backward")),
    ("softmax over the vocabulary", ("exp_", "sub_", "amax", "gather", "log", "scatter_add_", "mul_")),
    ("casts, copies, zeros", ("copy_", "cat", "fill_", "zero_")),
    ("sums: residuals, biases, parts of the head", ("add", "add_", "sum")),
)
OPTIMIZER, REST = "AdamW", "all else"


def least_seconds(
    config: GPT2Config, B: int, T: int, dtype: torch.dtype, flops: float, bytes_per_second: float
) -> dict[str, float]:
    """What each part of a step needs at least: its products at the machine's peak, or its bytes from and to memory.

    Counted once are the operands read and the results written that are too large for a cache; of N tokens and L layers
    C N L numbers make an activation of width C.
    """
    activation, elements = B * T * config.n_layer * config.n_embd, dtype.itemsize
    low = elements == 2
    matrices = config.n_layer * 12 * config.n_embd**2
    head = config.vocab_size * config.n_embd
    of_attention = 3 * B * T * config.n_layer * 4 * T * config.n_embd
    moved = {
        "GELU and its gradient": (8 + 12) * activation * elements,  # in, out; in, gradient in and out; 4 C wide
        "norms": 2 * (2 + 3) * activation * elements,  # two of them: in, out; in, gradient in and out
        "softmax over the vocabulary": 2 * B * T * config.vocab_size * 4,  # logits in, their gradient out
        # float32 weights to bfloat16, their gradients back; nothing where all is float32
        "casts, copies, zeros": (2 * (4 + 2) * matrices + 2 * (4 + 2) * head) * low,
        # Two residuals there and back, 3 each; four biases read gradients of 3, 1, 4 and 1.
        "sums: residuals, biases, parts of the head": (4 * 3 + 9) * activation * elements,
        OPTIMIZER: 28 * (matrices + head),  # p, g, m, v in; p, m, v out; float32
    }
    needed = {part: count / bytes_per_second for part, count in moved.items()}
    needed["matrix products"] = (step_flops(config, B, T) - of_attention) / flops
    needed["attention"] = of_attention / flops
    return needed
