"""Export of the embedding model to ONNX, and its difference from torch."""

import io
import logging
import warnings
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retrieval.data.formats import InputError
from retrieval.model.embedding import EmbeddingModel

COMPARED = (1, 3)  # batch sizes


def export(model: EmbeddingModel, path: Path) -> Path:
    """Write a model in evaluation mode as one ONNX file.

    Input ``images``: (n, 3, side, side) uint8, of the model's side, for any n. Output
    ``embeddings``: (n, dim) float32, rows of unit L2 norm.
    """
    _library("onnxscript")
    for name in ("onnxscript", "onnx_ir"):  # which log every step
        logging.getLogger(name).setLevel(logging.WARNING)
    side = model.config.side
    images = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        # The exporter warns about its own parts.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        program = torch.onnx.export(
            model,
            (images,),
            input_names=["images"],
            output_names=["embeddings"],
            dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(str(path), external_data=False)
    return path


def largest_difference(model: EmbeddingModel, path: Path, seed: int) -> float:
    """Return the largest difference of an embedding value between onnxruntime and torch.

    Args:
        model: In evaluation mode, on the CPU.
        path: The exported file.
        seed: Seed of the random images that are compared.
    """
    session = _library("onnxruntime").InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )
    rng, side = np.random.default_rng(seed), model.config.side
    differences = []
    for n in COMPARED:
        images = rng.integers(0, 256, (n, 3, side, side), dtype=np.uint8)
        with torch.inference_mode():
            expected = model(torch.from_numpy(images)).numpy()
        (found,) = session.run(None, {"images": images})
        differences.append(np.abs(found - expected).max())
    return float(np.max(differences))


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(
            "the export to ONNX needs two more packages; install them with: "
            "pip install onnxscript onnxruntime"
        ) from error
