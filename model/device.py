"""The device that computes, and the precision in which it is fastest."""

from dataclasses import dataclass

import torch


def device_of(name: str) -> torch.device:
    """Return the device of a `--device` value, after checking that this machine has it."""
    if name == "auto":
        # mps only on request: Apple's GPU is known to give wrong GPT-2 results without an error.
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        if device.type not in ("cpu", "cuda", "mps"):  # "meta" holds no numbers
            raise RuntimeError
    except (RuntimeError, AssertionError):  # torch built without CUDA raises an AssertionError
        raise ValueError(f"device {name!r} is not available here; use --device cpu or auto") from None
    return device


def exact_on(device: torch.device) -> torch.device:
    """Return a device that has float64: `device` itself, or the CPU if it is Apple's GPU, which has none."""
    return torch.device("cpu") if device.type == "mps" else device


def fastest_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 if the hardware is faster with it (AVX512-BF16, AMX, CUDA 8.0 and up), else float32."""
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
    """Where a model is computed, and in which precision; names are resolved when it is created."""

    device: torch.device | str = "auto"
    dtype: torch.dtype | str = "auto"  # of the matrix products; weights, moments and updates are always float32

    def __post_init__(self):
        if isinstance(self.device, str):
            object.__setattr__(self, "device", device_of(self.device))
        if isinstance(self.dtype, str):
            dtype = fastest_dtype(self.device) if self.dtype == "auto" else getattr(torch, self.dtype)
            object.__setattr__(self, "dtype", dtype)
        if self.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = True  # float32 products there: ten bits of mantissa are kept
            # cuDNN's attention makes a plan for every new length, and each token that is written has one.
            torch.backends.cuda.enable_cudnn_sdp(False)

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")
