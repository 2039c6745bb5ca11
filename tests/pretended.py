"""A device that nobody here has, pretended: what a GPU refuses is refused, what waits for it is counted.

Inside `Pretended()` a tensor that was sent to the device says that it is there, and its numbers are computed on the
CPU: they can be compared with the CPU's own. As on a GPU

- an operation on tensors of two places is an error, unless one of them is a single number (0-dim) on the CPU;
- what is made without `device=` is on the CPU;
- Python sees a number only when it has come back. For that it waits until the device has done all it was told to;
- a copy to the device waits in the same way: the memory that it is read from is not pinned;
- a CUDA graph is a list of operations and of the memory that they read and write. Python's own work is not in it.

What it cannot show: whether a GPU's own kernels are right, how long anything takes, and what PyTorch's C++ decides by
the device (there it sees a CPU).
"""

from contextlib import contextmanager, nullcontext
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

# Operations whose outcome, a Python number or a shape, is known only when the device is done.
WAITS = {"item", "_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "bincount"}


class There(Tensor):
    """A tensor on the pretended device. `numbers`, on the CPU, are what it holds."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, numbers: Tensor, place: "Pretended"):
        if numbers.dtype == torch.float64 and place.device.type == "mps":
            raise TypeError("mps has no float64")
        place_in_memory = {"strides": numbers.stride(), "storage_offset": numbers.storage_offset()}
        with torch.inference_mode(False):  # the numbers are of inference mode themselves, where that matters
            there = Tensor._make_wrapper_subclass(cls, numbers.size(), dtype=numbers.dtype, **place_in_memory)
        there.numbers, there.place = numbers, place
        return there

    @property
    def device(self) -> torch.device:
        return self.place.device

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [tensor for tensor in tensors if isinstance(tensor, There)]
        place, name = there[0].place, operation.overloadpacket.__name__
        here = [tensor for tensor in tensors if not isinstance(tensor, There)]
        if name == "copy_" and here:
            place.waits.append(name)
            if isinstance(args[0], There):
                place.sent.append(name)
        elif any(tensor.dim() for tensor in here):
            raise RuntimeError(f"{operation}: a tensor on {place.device} and one on the CPU")
        by_mask = name.startswith("index") and any(tensor.dtype == torch.bool for tensor in there[1:])
        if name in WAITS or by_mask:
            place.waits.append(name)
        args, kwargs = tree_map_only(There, lambda tensor: tensor.numbers, (args, kwargs or {}))
        found = operation(*args, **kwargs)
        if place.graph is not None:
            if name in WAITS or by_mask or here:
                raise RuntimeError(f"{operation}: a graph is recorded, and nothing may cross or wait")
            place.graph.operations.append((operation, args, kwargs, found))
        # What was changed in place comes out as the tensor that went in.
        known = {id(tensor.numbers): tensor for tensor in there} | {id(tensor): tensor for tensor in here}
        return tree_map_only(Tensor, lambda out: known.get(id(out), There(out, place)), found)


class Graph:
    """Stands for torch.cuda.CUDAGraph."""

    def __init__(self):
        self.operations = []

    @torch.no_grad()
    def replay(self) -> None:
        for operation, args, kwargs, found in self.operations:
            for old, new in zip(tree_leaves(found), tree_leaves(operation(*args, **kwargs))):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():  # neither in place nor a view
                    old.copy_(new.reshape(old.shape))  # `squeeze_` has changed the shape of an old one


class Pretended(TorchFunctionMode):
    """Inside: there is such a device. `sent` names what has gone to it, and `waits` that and what has come back."""

    def __init__(self, device: str = "cuda:0"):
        super().__init__()
        self.device, self.sent, self.waits, self.graph = torch.device(device), [], [], None

    @contextmanager
    def recording(self, graph: Graph):
        self.graph = graph
        yield
        self.graph = None

    def __enter__(self):
        self.patched = pytest.MonkeyPatch()
        for name, stand_in in {"CUDAGraph": Graph, "graph": self.recording, "device": nullcontext}.items():
            self.patched.setattr(torch.cuda, name, stand_in)
        for name in ("Stream", "current_stream", "stream"):
            self.patched.setattr(torch.cuda, name, MagicMock())
        # A module that is moved gets new parameters: the old ones cannot change into tensors of another kind.
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        return super().__enter__()

    def __exit__(self, *error):
        torch.__future__.set_overwrite_module_params_on_conversion(False)
        self.patched.undo()
        super().__exit__(*error)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function is Tensor.tolist:
            return self.moved(args[0], torch.device("cpu")).tolist()
        if function is Tensor.cpu:
            return self.moved(args[0], torch.device("cpu"))
        if function is Tensor.to:
            tensor, *rest = args
            for device in [kwargs.pop("device", None), *rest]:
                if isinstance(device, (str, torch.device)):
                    tensor = self.moved(tensor, torch.device(device))
            rest = [other for other in rest if isinstance(other, torch.dtype)]
            return function(tensor, *rest, **kwargs) if rest or kwargs else tensor
        if kwargs.get("device") is None or torch.device(kwargs["device"]).type != self.device.type:
            return function(*args, **kwargs)
        if function is torch.tensor:
            self.sent.append("tensor")
            self.waits.append("tensor")
        return There(function(*args, **kwargs | {"device": "cpu"}), self)

    def moved(self, tensor: Tensor, device: torch.device) -> Tensor:
        if isinstance(tensor, There) and device.type != self.device.type:
            self.waits.append("to")
            return tensor.numbers.clone()
        if not isinstance(tensor, There) and device.type == self.device.type:
            self.sent.append("to")
            self.waits.append("to")
            return There(tensor.detach().clone(), self)
        return tensor
