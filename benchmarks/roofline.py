"""Helpers of the encoding and training benchmarks: images, models, ceilings."""

import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from retrieval.model import backbones
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.model_config import ModelConfig

DIM = 512
MATMUL = {"cpu": 1024, "cuda": 8192}  # matrix side for the matmul peak


def write_images(path: Path, n: int, side: int) -> Path:
    """Write (n, 3, side, side) uint8 random images, at most 64 of them distinct."""
    file = np.lib.format.open_memmap(path, "w+", np.uint8, (n, 3, side, side))
    few = np.random.default_rng(0).integers(0, 256, (min(n, 64), 3, side, side), dtype=np.uint8)
    for start in range(0, n, len(few)):
        file[start : start + len(few)] = few[: n - start]
    file.flush()
    return path


def make_model(arch: str, side: int) -> EmbeddingModel:
    """Return a model with random but reproducible weights."""
    torch.manual_seed(0)
    dim = min(DIM, backbones.width(arch, side))
    return EmbeddingModel(ModelConfig(arch, dim, side))


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device, processor: str) -> str:
    """Return the name of a device: of the GPU, or the given processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor


def flops_per_image(model: EmbeddingModel, side: int, is_training: bool) -> float:
    """Return the floating point operations per image; a multiply-add counts as two."""
    images = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter:
        embeddings = model.cpu().train(is_training)(images)
        if is_training:
            embeddings.sum().backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops() / 2


def matmul_flops(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Return the floating point operations per second of large matrix products."""
    side = MATMUL[device.type]
    left, right = torch.randn(2, side, side, device=device).to(dtype)
    left @ right
    wait_for(device)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(10 if device.type == "cuda" else 1):
            left @ right
            count += 1
        wait_for(device)
    return 2 * side**3 * count / (time.perf_counter() - start)
