"""What is measured, and what was aimed at."""

VOCAB = 50257
FLOAT32, PLAIN = {"dtype": "float32"}, {"plain": True}  # a plain model needs no transformers
TRAIN = {"work": "train", "batch_size": 16, "seq_len": 256, "dtype": "auto"}
GENERATE = {"work": "generate", "new_tokens": 100, "dtype": "auto"}
ADAMW = {"work": "adamw"} | FLOAT32

DEFAULT_STEP = "training step, default settings, against float32"
FLOAT32_STEP = "training step, float32"
GENERATION = "generation {} x 100, auto, against float32"
START = "start to first training step, cached model"
TRIAL = "a trial of 20 steps"
RUN = "a whole default run"
SWEEP = "a sweep of three rates x 800 samples"

# name: (ours, theirs). The ratio is their time over ours. "auto" is the dtype that is fastest here.
PAIRS = {
    DEFAULT_STEP: (TRAIN, TRAIN | FLOAT32),
    "training step, default settings, against transformers with torch.compile": (TRAIN, TRAIN | {"compile": True}),
    "training step, default settings, against a step with nanoGPT's settings": (TRAIN, TRAIN | PLAIN),
    FLOAT32_STEP: (TRAIN | FLOAT32, TRAIN | FLOAT32),
    **{
        GENERATION.format(B): (GENERATE | {"sequences": B}, GENERATE | FLOAT32 | {"sequences": B})
        for B in (10, 64, 256)
    },
    "AdamW step, against torch's fused one": (ADAMW, ADAMW | PLAIN),
}
NOT_ON = {"cpu": GENERATION.format(256), "cuda": FLOAT32_STEP}  # too long; the peer's float32 is no TF32
AIMS = {DEFAULT_STEP: "6; 3.5 GB", GENERATION.format(10): "6", GENERATION.format(64): "6", START: "4"}
AT_MOST = {TRIAL: 1 / 3, RUN: 0.05}  # of the time is not training


def step_flops(L: int, C: int, B: int, T: int) -> float:
    """FLOP of the matrix products in one training step: forward, and twice that backward.

    Two for each weight of L blocks (12 C^2) and of the head (V C) and each token, and 4 T C for each
    token and block in the attention (counted whole, as it is computed without a causal shortcut).
    """
    return 3 * B * T * (2 * (L * 12 * C**2 + VOCAB * C) + L * 4 * T * C)


# Of a step: (part, operations of PyTorch whose time it is).
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
    ("softmax over the vocabulary", ("_log_softmax", "exp_", "gather", "scatter_add_", "mul_")),
    ("casts, copies, zeros", ("copy_", "cat", "fill_", "zero_")),
    ("sums: residuals, biases, parts of the head", ("add", "add_", "sum")),
    ("AdamW", ("_fused_adamw_",)),
)
REST = "all else"
