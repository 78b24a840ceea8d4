"""Export of the embedding model to ONNX, with the views of test-time augmentation."""

import io
import logging
import warnings
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from retrieval.data.formats import InputError
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.tta import Views, at_scale

COMPARED = (1, 3)  # batch sizes


class ViewsGraph(nn.Module):
    """The views of images of one side, resized, embedded and averaged in one graph.

    OpenVINO ignores antialiasing, so images are made smaller by two matrix products, with torch's
    weights. For larger ones antialiasing changes nothing, and the model's own resampling is faster.

    Args:
        model: In evaluation mode, on the CPU.
        views: The views to embed.
        side: Side of the images in pixels.
    """

    def __init__(self, model: EmbeddingModel, views: Views, side: int) -> None:
        super().__init__()
        self.views = views
        models = [at_scale(model, scale) for scale in views.scales]
        self.models = nn.ModuleList(models)
        for number, scaled in enumerate(models):
            new_side = scaled.config.side
            weights = shrinking_weights(side, new_side) if new_side < side else None
            self.register_buffer(f"weights{number}", weights, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed (n, 3, side, side) uint8 images: (n, dim) float32, rows of unit L2 norm."""
        n, found = images.shape[0], []
        for number, model in enumerate(self.models):
            weights, shown = getattr(self, f"weights{number}"), images.float()
            if weights is not None:
                shown = weights @ shown @ weights.T
            if self.views.tta == "flip":
                both = model(torch.cat([shown, shown.flip(-1)]))
                found += [both[:n], both[n:]]
            else:
                found.append(model(shown))
        return found[0] if self.views.count == 1 else F.normalize(sum(found))


def shrinking_weights(side: int, new_side: int) -> torch.Tensor:
    """Return W, (new_side, side) float32: W X W^T is the square X, resized.

    As ``F.interpolate(mode="bilinear", antialias=True)``, which is linear and separable.
    """
    rows = torch.eye(side)[None, None]
    return F.interpolate(rows, (new_side, side), mode="bilinear", antialias=True)[0, 0]


def export(
    model: EmbeddingModel,
    path: Path,
    views: Views | None = None,
    side: int | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a model in evaluation mode as one ONNX file.

    Input ``images``: (n, 3, side, side) uint8, for any n. Output ``embeddings``: (n, dim) float32,
    rows of unit L2 norm.

    Args:
        model: On the CPU.
        path: The file to write.
        views: Views to embed and average; None embeds the plain image.
        side: Side of the images in pixels; None is the model's.
        metadata: What the file says of its origin (``custom_metadata_map`` of onnxruntime).
    """
    _library("onnxscript")
    for name in ("onnxscript", "onnx_ir"):  # which log every step
        logging.getLogger(name).setLevel(logging.WARNING)
    side = side or model.config.side
    graph = ViewsGraph(model, views or Views(), side).eval()
    images = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        # The exporter warns about its own parts.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        program = torch.onnx.export(
            graph,
            (images,),
            input_names=["images"],
            output_names=["embeddings"],
            dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.model.metadata_props.update(metadata or {})
        program.save(str(path), external_data=False)
    return path


def largest_difference(
    model: EmbeddingModel, path: Path, seed: int, views: Views | None = None
) -> float:
    """Return the largest difference of an embedding value between onnxruntime and torch.

    Args:
        model: In evaluation mode, on the CPU.
        path: The exported file, for images of the model's side.
        seed: Seed of the random images that are compared.
        views: The views it embeds; None is the plain image.
    """
    views = views or Views()
    session = _library("onnxruntime").InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )
    rng, side = np.random.default_rng(seed), model.config.side
    differences = []
    for n in COMPARED:
        images = rng.integers(0, 256, (n, 3, side, side), dtype=np.uint8)
        with torch.inference_mode():
            expected = views.embed(model, torch.from_numpy(images)).numpy()
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
