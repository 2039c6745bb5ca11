"""A GPT-2 on the meta device, so that loading skips random initialisation."""

import torch
from torch.overrides import TorchFunctionMode

from model.gpt2 import GPT2, Attend, GPT2Config


class _NoInit(TorchFunctionMode):
    """Inside this mode the functions of `torch.nn.init` do nothing."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        is_init = getattr(func, "__module__", None) == "torch.nn.init"
        return None if is_init else func(*args, **(kwargs or {}))  # their result is not used


def empty_model(config: GPT2Config, attend: Attend) -> GPT2:
    """Return a `GPT2` in eval mode whose parameters have shapes but no memory (torch's "meta" device).

    `load_state_dict(..., assign=True)` sets its weights. Random initialisation of GPT-2 124M would take a second
    and be thrown away, and on the meta device it makes torch import its compiler, which takes two more seconds.
    """
    with torch.device("meta"), _NoInit():
        return GPT2(config, attend).eval()
