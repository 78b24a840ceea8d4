"""The model that encoded a database, loaded once, for photos to search with."""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retrieval.compute import devices
from retrieval.compute.devices import Precision
from retrieval.compute.faster_way import FasterWay
from retrieval.model import checkpoint
from retrieval.model.embedding import EmbeddingModel, put_on
from retrieval.model.pieces import CPU_PIECE, in_pieces
from retrieval.model.tta import Views

log = logging.getLogger(__name__)

TOGETHER = 0  # the way in which all threads share each layer; 1: each embeds photos of its own


class QueryEncoder:
    """Prepared photos -> embeddings, with the views and the precision of a database.

    Attributes:
        model: In evaluation mode, on its device.
        views: The views that are averaged.
        dtype: Dtype of the convolutions.
    """

    def __init__(self, model: EmbeddingModel, views: Views, dtype: torch.dtype) -> None:
        self.model = model.eval()
        self.views = views
        self.dtype = dtype
        self._faster = FasterWay()

    @classmethod
    def load(cls, save_path: Path, record: dict[str, Any], device: str = "auto") -> "QueryEncoder":
        """Load the checkpoint.

        Args:
            save_path: The checkpoint that encoded the database.
            record: The record of the database's embeddings.
            device: auto, cpu, cuda or cuda:n.
        """
        chosen = devices.choose(device)
        model = checkpoint.build_model(checkpoint.load(save_path), save_path)
        views = Views(record["tta"], tuple(record["scales"]))
        return cls(put_on(model, chosen), views, _dtype(chosen, record["precision"]))

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.mean.device

    @torch.inference_mode()
    def embed(self, squares: np.ndarray) -> np.ndarray:
        """Embed prepared photos.

        Args:
            squares: (n, 3, side, side) uint8, RGB.

        Returns:
            (n, dim) float32, rows of unit L2 norm.
        """
        images = torch.from_numpy(squares)
        if self.device.type != "cpu":
            return self._embed(images.to(self.device)).float().cpu().numpy()
        if len(images) > CPU_PIECE or torch.get_num_threads() == 1:
            return self._in_pieces(images)
        # All threads share a few photos, as somebody waits for them. Where another program keeps a
        # processor busy, one thread alone is faster.
        way, begin = self._faster.next(), time.perf_counter()
        found = self._embed(images).numpy() if way == TOGETHER else self._in_pieces(images)
        self._faster.took(way, (time.perf_counter() - begin) / len(images))
        return found

    def _in_pieces(self, images: torch.Tensor) -> np.ndarray:
        size = -(-len(images) // torch.get_num_threads())
        with in_pieces(self._embed) as pieces:
            return pieces.start(images, min(CPU_PIECE, size))()

    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        with devices.autocast(self.device, self.dtype):
            return self.views.embed(self.model, images)


def _dtype(device: torch.device, recorded: Precision) -> torch.dtype:
    """Return the dtype that encoded the database; processors compute float16 in float32."""
    if recorded == "float16" and device.type == "cpu":
        return torch.float32
    return devices.compute_dtype(device, recorded)
