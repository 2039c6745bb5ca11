"""A GPT-2 of shapes without memory: what is about to be filled needs no random numbers first."""

import torch
from torch.overrides import TorchFunctionMode

from model.gpt2 import GPT2, Attend, GPT2Config


class _NoInit(TorchFunctionMode):
    """Inside, the functions of `torch.nn.init` leave their tensor as it is."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        is_init = getattr(func, "__module__", None) == "torch.nn.init"
        return None if is_init else func(*args, **(kwargs or {}))  # nobody uses what they return


def empty_model(config: GPT2Config, attend: Attend) -> GPT2:
    """A `GPT2` whose parameters have shapes but neither memory nor values (torch's "meta" device), in eval mode.

    Give it its weights with `load_state_dict(..., assign=True)`. Random numbers would cost a second for GPT-2
    124M, only to be thrown away; and drawing them for tensors without memory makes torch import its compiler,
    which takes two more.
    """
    with torch.device("meta"), _NoInit():
        return GPT2(config, attend).eval()
