"""Names of devices."""

import pytest
import torch

from retrieval.compute import devices
from retrieval.data.formats import InputError


def test_a_cpu_is_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "CUDA_DRIVERS", ("no such library",))
    assert [devices.resolve(name) for name in ("cpu", "auto")] == ["cpu", "cpu"]
    assert devices.choose("auto") == torch.device("cpu")
    assert devices.describe("cpu") == devices.describe(torch.device("cpu")) == "cpu"


@pytest.mark.parametrize("count", [0, 2])
def test_a_driver_alone_is_no_gpu(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_cuda_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert devices.resolve("auto") == ("cuda" if count else "cpu")
    for name in ("cuda", "cuda:1") if count else ():
        assert devices.resolve(name) == name
        assert devices.choose(name) == torch.device(name)
    with pytest.raises(InputError, match=f"this machine has {count} CUDA devices"):
        devices.resolve(f"cuda:{count}")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "mps", "", "cuda:-1"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="is not one of auto, cpu, cuda, cuda:n"):
        devices.resolve(name)


def test_depthwise_networks_train_in_float32_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "compute_dtype", lambda device, precision: torch.bfloat16)
    dense, depthwise = torch.nn.Conv2d(8, 8, 3), torch.nn.Conv2d(8, 8, 3, groups=8)
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert devices.training_dtype(dense, cpu, "auto") == torch.bfloat16
    assert devices.training_dtype(depthwise, cpu, "auto") == torch.float32
    assert devices.training_dtype(depthwise, cuda, "auto") == torch.bfloat16
    assert devices.training_dtype(depthwise, cpu, "bfloat16") == torch.bfloat16
