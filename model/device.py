"""What the machine has: the device that computes, and the precision that it is fastest in."""

from dataclasses import dataclass

import torch


def device_of(name: str) -> torch.device:
    """The device of a `--device` value.

    Raises:
        ValueError: this machine does not have it.
    """
    if name == "auto":
        # Never mps by itself: Apple's GPU has been seen to give wrong GPT-2 results without a word.
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        if device.type not in ("cpu", "cuda", "mps"):  # "meta" holds no numbers
            raise RuntimeError
    except (RuntimeError, AssertionError):  # torch built without CUDA answers with an AssertionError
        raise ValueError(f"device {name!r} is not available here; use --device cpu or auto") from None
    return device


def exact_on(device: torch.device) -> torch.device:
    """Where float64 is to be had: `device` itself, or the CPU where that is Apple's GPU, which has none."""
    return torch.device("cpu") if device.type == "mps" else device


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    """The dtype of a `--dtype` value: auto, float32 or bfloat16."""
    return fastest_dtype(device) if name == "auto" else {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def fastest_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware is faster with it (AVX512-BF16, AMX, CUDA 8.0 and up), else float32."""
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    elif device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        fast = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    else:
        fast = False
    return torch.bfloat16 if fast else torch.float32


@dataclass(frozen=True)
class Machine:
    """Where a model is computed, and in which precision. Names are looked up as it is made.

    Raises:
        ValueError: this machine does not have the device.
    """

    device: torch.device | str = "auto"
    dtype: torch.dtype | str = "auto"  # of the matrix products; weights, moments and updates are always float32

    def __post_init__(self):
        if isinstance(self.device, str):
            object.__setattr__(self, "device", device_of(self.device))
        if isinstance(self.dtype, str):
            object.__setattr__(self, "dtype", dtype_of(self.dtype, self.device))

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")
