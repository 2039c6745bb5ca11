"""Forward and backward pass as a CUDA graph: one launch in place of hundreds.

Python needs about 6 microseconds to start a kernel on a GPU, and in a step of GPT-2 124M the kernels are not much
longer: the GPU waits for Python. A CUDA graph is a list of kernels with the addresses that they read and write. It is
recorded once and then started as a whole.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from model.gpt2 import GPT2


class RecordedGradients:
    """Adds the gradients of `loss_of(model, inputs, targets)` as `plain_gradients` does. Never tried on a GPU.

    The graph reads the weights where they lie: it sees an optimizer that changes them in place. It is recorded for one
    model and one size of batch, and anew for another. Random numbers would be others after an interruption: no dropout.
    """

    def __init__(self, loss_of: Callable[[GPT2, Tensor, Tensor], Tensor]):
        self.loss_of, self.recorded = loss_of, None

    def record(self, model: GPT2, inputs: Tensor, targets: Tensor) -> None:
        self.batch = inputs.clone(), targets.clone()
        self.parameters = list(model.parameters())
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # PyTorch asks for it: libraries allocate their memory in a first pass
            self.loss_of(model, *self.batch).backward()
        torch.cuda.current_stream().wait_stream(side)
        for p in self.parameters:
            p.grad = None  # or the graph would add to it
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            loss = self.loss_of(model, *self.batch)
            loss.backward()
        self.loss, self.grads = loss.detach(), [p.grad for p in self.parameters]

    def __call__(self, model: GPT2, inputs: Tensor, targets: Tensor) -> float:
        with torch.cuda.device(inputs.device):
            if self.recorded != (model, inputs.shape):
                self.record(model, inputs, targets)
                self.recorded = model, inputs.shape
            for place, part in zip(self.batch, (inputs, targets)):
                place.copy_(part)
            self.graph.replay()
        for p, grad in zip(self.parameters, self.grads):
            p.grad = grad  # the optimizer's `zero_grad` dropped it
        return self.loss.item()
