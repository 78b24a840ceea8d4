"""Other runtimes for the same network on a CPU, from its ONNX export."""

import logging
import tempfile
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from retrieval.data.formats import InputError
from retrieval.model import onnx
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.model_config import Runtime
from retrieval.model.tta import Views

log = logging.getLogger(__name__)

Infer = Callable[[np.ndarray], np.ndarray]  # (n, 3, side, side) uint8 -> (n, dim) float32
MANY_IMAGES = 1_000  # from here on a faster runtime pays for its start of 5 to 10 seconds
LEAST_COSINE = {torch.float32: 0.9999, torch.bfloat16: 0.99}  # to torch's float32 embeddings


class RuntimeModel(nn.Module):
    """An embedding model in another runtime, on the CPU, for images of one side.

    Args:
        model: The model to convert, on the CPU and in evaluation mode.
        runtime: Which runtime.
        dtype: Dtype of the convolutions; ``onnxruntime`` takes float32 only.
        views: Views to embed and average; None embeds the plain image.
        side: Side of the images in pixels; None is the model's.

    Raises:
        InputError: The runtime is not installed, cannot run the network, or computes other
            embeddings than torch.
    """

    mean: torch.Tensor

    def __init__(
        self,
        model: EmbeddingModel,
        runtime: Runtime,
        dtype: torch.dtype,
        views: Views | None = None,
        side: int | None = None,
    ) -> None:
        super().__init__()
        _check_dtype(runtime, dtype)  # before the export, which takes seconds
        self.config = model.config
        self.views, self.side = views or Views(), side or model.config.side
        self.register_buffer("mean", model.mean, persistent=False)
        with tempfile.TemporaryDirectory() as folder:
            path = onnx.export(model, Path(folder) / "model.onnx", self.views, self.side)
            self._infer = _start(runtime, path, dtype, model.config.arch)
        self._check(model, runtime, LEAST_COSINE[dtype])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed (n, 3, side, side) uint8 images: (n, dim) float32, rows of unit L2 norm."""
        return torch.from_numpy(self._infer(images.contiguous().numpy()))

    def _check(self, model: EmbeddingModel, runtime: str, least: float) -> None:
        side = self.side
        images = np.random.default_rng(0).integers(0, 256, (2, 3, side, side), dtype=np.uint8)
        with torch.inference_mode():
            expected = self.views.embed(model, torch.from_numpy(images)).numpy()
        found = self._infer(images)
        norms = np.linalg.norm(found, axis=1)
        cosine = float(((found * expected).sum(axis=1) / norms).min())
        if not (cosine >= least and np.abs(norms - 1).max() <= 1 - least):
            raise InputError(
                f"{runtime} computes other embeddings than torch (cosine {cosine:.4f}); "
                "use --runtime=torch"
            )


Embedder = EmbeddingModel | RuntimeModel


def fastest(
    model: EmbeddingModel, dtype: torch.dtype, views: Views | None = None, side: int | None = None
) -> tuple[Runtime, Embedder]:
    """Return the fastest runtime that is installed and agrees with torch, and the model in it.

    The order was measured (benchmarks/encode/runtimes.py) and is fixed: to time them here could
    choose another runtime, and write other bytes, each time.

    Args:
        model: The model, on the CPU and in evaluation mode.
        dtype: Dtype of the convolutions.
        views: Views to embed and average; None embeds the plain image.
        side: Side of the images in pixels; None is the model's.
    """
    runtimes: list[Runtime] = ["openvino"]
    if dtype == torch.float32:
        runtimes.append("onnxruntime")
    installed = [name for name in runtimes if all(map(find_spec, (name, "onnxscript")))]
    if not installed:
        log.info("OpenVINO may encode faster; install it with: pip install openvino onnxscript")
    for name in installed:
        try:
            return name, RuntimeModel(model, name, dtype, views, side)
        except InputError as error:
            log.warning("%s", error)
    return "torch", model


def _start(runtime: Runtime, path: Path, dtype: torch.dtype, arch: str) -> Infer:
    try:
        return START[runtime](path, torch.get_num_threads(), dtype)
    except InputError:
        raise
    except Exception as error:  # each library has its own, for an operator that it lacks
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{runtime} cannot run {arch} ({reason}); use --runtime=torch") from error


def _check_dtype(runtime: Runtime, dtype: torch.dtype) -> None:
    if runtime == "openvino" and dtype == torch.float16:
        raise InputError("--runtime=openvino computes in float32 or bfloat16 on a CPU")
    if runtime == "onnxruntime" and dtype != torch.float32:
        raise InputError("--runtime=onnxruntime computes in float32: add --precision=float32")


def _openvino(path: Path, n_thread: int, dtype: torch.dtype) -> Infer:
    precision = "bf16" if dtype == torch.bfloat16 else "f32"
    options = {"INFERENCE_NUM_THREADS": n_thread, "INFERENCE_PRECISION_HINT": precision}
    network = _library("openvino").Core().compile_model(str(path), "CPU", options)
    return lambda images: np.array(network(images)[0])


def _onnxruntime(path: Path, n_thread: int, dtype: torch.dtype) -> Infer:
    library = _library("onnxruntime")
    options = library.SessionOptions()
    options.intra_op_num_threads = n_thread
    session = library.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


# (ONNX file, number of threads, dtype of the convolutions) -> inference
START: dict[str, Callable[[Path, int, torch.dtype], Infer]] = {
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
}


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(
            f"--runtime={name} needs the package {name}; install it with: pip install {name}"
        ) from error
