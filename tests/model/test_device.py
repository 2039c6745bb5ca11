"""Which device and which precision a name stands for."""

import os

import pytest
import torch

from model.device import Machine, fastest_dtype


def test_no_gpu_is_used_that_was_not_asked_for():
    assert os.environ["CUDA_VISIBLE_DEVICES"] or not torch.cuda.is_available()


def test_which_dtype_auto_means(monkeypatch):
    cpu = torch.device("cpu")
    for capabilities, expected in (
        ({}, torch.float32),
        ({"avx512_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda capabilities=capabilities: capabilities)
        assert fastest_dtype(cpu) == Machine(cpu, "auto").dtype == expected
    for capability, expected in (((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)):
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda device, capability=capability: capability)
        assert fastest_dtype(torch.device("cuda")) == expected
    assert fastest_dtype(torch.device("mps")) == torch.float32
    assert (
        Machine(torch.device("mps"), "bfloat16").dtype == torch.bfloat16
        and Machine(cpu, "float32").dtype == torch.float32
    )


def test_a_machine_looks_names_up():
    machine = Machine("cpu", "bfloat16")
    assert (
        machine.device == torch.device("cpu") and machine.dtype == torch.bfloat16 and machine.dtype_name == "bfloat16"
    )
    assert Machine("cpu").dtype == fastest_dtype(torch.device("cpu"))
    assert Machine(torch.device("meta"), torch.float64).dtype == torch.float64  # what is no name is taken as it is
    with pytest.raises(ValueError, match="'toaster' is not available"):
        Machine("toaster")
