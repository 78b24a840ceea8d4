"""The model that encoded a database, loaded once, for photos to search with."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retrieval.compute import devices
from retrieval.compute.devices import Precision
from retrieval.model import checkpoint
from retrieval.model.embedding import EmbeddingModel, put_on
from retrieval.model.encode import CPU_PIECE
from retrieval.model.tta import Views

log = logging.getLogger(__name__)


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

    @classmethod
    def load(cls, save_path: Path, record: dict[str, Any], device: str = "auto") -> "QueryEncoder":
        """Load the checkpoint.

        Args:
            save_path: The checkpoint that encoded the database.
            record: The record of the database's embeddings.
            device: auto, cpu, cuda or cuda:n.
        """
        place = devices.choose(device)
        model = checkpoint.build_model(checkpoint.load(save_path), save_path)
        views = Views(record["tta"], tuple(record["scales"]))
        return cls(put_on(model, place), views, _dtype(place, record["precision"]))

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
        piece = CPU_PIECE if self.device.type == "cpu" else len(images)
        with devices.autocast(self.device, self.dtype):
            parts = [
                self.views.embed(self.model, part.to(self.device)) for part in images.split(piece)
            ]
        return torch.cat(parts).float().cpu().numpy()


def _dtype(place: torch.device, recorded: Precision) -> torch.dtype:
    """Return the dtype that encoded the database; processors compute float16 in float32."""
    if recorded == "float16" and place.type == "cpu":
        return torch.float32
    return devices.compute_dtype(place, recorded)
