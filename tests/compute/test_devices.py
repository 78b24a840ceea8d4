"""Devices by name."""

import pytest
import torch

from retrieval.compute import devices
from retrieval.data.formats import InputError


def test_devices() -> None:
    assert devices.choose("cpu") == torch.device("cpu")
    for name in ("tpu", "meta", "cuda:99"):
        with pytest.raises(InputError, match=f"--device={name}"):
            devices.choose(name)
