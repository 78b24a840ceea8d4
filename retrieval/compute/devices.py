"""Devices, precision and available memory.

torch takes seconds to import, so it is imported only where a GPU may be used or a network runs.
"""

import ctypes
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from retrieval.data.formats import InputError

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "bfloat16", "float16"]

DEVICE_HELP = "auto, cpu, cuda or cuda:n"
PRECISION_HELP = (
    "dtype of the convolutions; auto: bfloat16 if native, float16 on GPUs of capability 7.x"
)

CUDA_DRIVERS = ("libcuda.so.1", "nvcuda.dll")  # on Linux, on Windows


def resolve(name: str) -> str:
    """Return the device that ``--device`` means on this machine.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``cuda:n``. ``auto`` takes a GPU if there is one.

    Returns:
        ``cpu``, ``cuda`` or ``cuda:n``.

    Raises:
        InputError: The name is not one of these, or the machine has no such GPU.
    """
    if name == "cpu" or (name == "auto" and not has_cuda_driver()):
        return "cpu"
    if name != "auto" and not re.fullmatch(r"cuda(:\d+)?", name):
        raise InputError(f"--device={name} is not one of auto, cpu, cuda, cuda:n")
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    count = torch.cuda.device_count()
    if int(name.partition(":")[2] or 0) >= count:
        raise InputError(f"--device={name}: this machine has {count} CUDA devices; use auto or cpu")
    return name


def has_cuda_driver() -> bool:
    """Return whether the library of a CUDA driver can be loaded, without importing torch."""
    for library in CUDA_DRIVERS:
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return True
    return False


def choose(name: str) -> "torch.device":
    """Return what `resolve` does, for the stages that run a network."""
    import torch

    return torch.device(resolve(name))


def describe(device: "torch.device | str") -> str:
    """Return a device in words: ``cpu``, or which GPU."""
    if str(device) == "cpu":
        return "cpu"
    import torch

    return f"{device}, {torch.cuda.get_device_name(device)}"


def compute_dtype(device: "torch.device", precision: Precision) -> "torch.dtype":
    """Return the dtype of convolutions.

    ``auto`` takes bfloat16 if the processor has it natively, float16 on GPUs of compute
    capability 7.x, else float32.
    """
    import torch

    if precision != "auto":
        return getattr(torch, precision)
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability >= (8, 0):
            return torch.bfloat16
        return torch.float16 if capability >= (7, 0) else torch.float32
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    # ATEN_CPU_CAPABILITY may hold torch to what an older processor has.
    is_native = "AVX512" in torch.backends.cpu.get_cpu_capability() and (
        "avx512_bf16" in flags or "amx_bf16" in flags
    )
    return torch.bfloat16 if is_native else torch.float32


def training_dtype(
    model: "torch.nn.Module", device: "torch.device", precision: Precision
) -> "torch.dtype":
    """Return the dtype of convolutions in training: as `compute_dtype`, with one exception.

    On a CPU with native bfloat16, ``auto`` trains networks with depthwise convolutions in float32.
    The gradients of these convolutions are so slow in bfloat16 that an EfficientNet-Lite0 takes
    1.7 times as long, while a ResNet takes less than half (docs/experiments/training.md).
    """
    import torch

    if precision == "auto" and device.type == "cpu":
        convolutions = (m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
        if any(1 < m.groups == m.in_channels for m in convolutions):
            return torch.float32
    return compute_dtype(device, precision)


def gradient_scaler(device: "torch.device", dtype: "torch.dtype") -> "torch.amp.GradScaler":
    """Return the scaler that keeps float16 gradients from vanishing; other dtypes need none.

    It multiplies the loss, divides the gradients before the optimizer sees them, and skips
    steps whose gradients overflowed (Micikevicius et al., Mixed Precision Training, ICLR 2018).
    """
    import torch

    return torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)


def autocast(device: "torch.device", dtype: "torch.dtype") -> AbstractContextManager[object]:
    """Return the context in which convolutions run in ``dtype``."""
    import torch

    is_enabled = dtype != torch.float32
    return torch.autocast(device.type, dtype if is_enabled else None, enabled=is_enabled)


@contextmanager
def searching_convolutions(is_wanted: bool) -> Iterator[None]:
    """Enable or disable cuDNN's search for the fastest convolutions within the block."""
    import torch

    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = is_wanted
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def check_steps(scaler: "torch.amp.GradScaler", scale_before: float, steps: int) -> None:
    """Refuse float16 steps that were all skipped, each of which lowered the scale."""
    if not scaler.is_enabled() or not steps:
        return
    if scaler.get_scale() <= scale_before * scaler.get_backoff_factor() ** steps:
        raise InputError(
            f"the gradients of all {steps} steps overflow in float16, nothing was learned; "
            "use --precision=float32"
        )


def total_memory(device: "torch.device") -> int:
    """Return the bytes of memory that this process may use at most.

    The total, not the free memory, so that values derived from it are the same in every run on
    one machine.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_properties(device).total_memory
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    container = Path("/sys/fs/cgroup/memory.max")
    limit = container.read_text().strip() if container.exists() else "max"
    return min(total, int(limit)) if limit.isdecimal() else total


def to_device(tensor: "torch.Tensor", device: "torch.device") -> "torch.Tensor":
    """Copy a CPU tensor to a device; the copy to a GPU does not block."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
