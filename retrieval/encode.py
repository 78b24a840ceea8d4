"""Images -> embeddings, batch by batch."""

from collections.abc import Iterator

import numpy as np
import torch
from tqdm import tqdm

from retrieval import devices
from retrieval.model import EmbeddingModel
from retrieval.views import Views


@torch.inference_mode()
def embedding_blocks(
    model: EmbeddingModel,
    matrix: np.ndarray,
    rows: np.ndarray,
    batch_size: int,
    dtype: torch.dtype,
    title: str,
    views: Views | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Embed some rows of an image matrix, in their order.

    Args:
        model: On the device where to compute; put into evaluation mode.
        matrix: (n_image, 3, side, side) uint8, may be a memory map.
        rows: (n,) int64 rows to embed.
        batch_size: Images at once.
        dtype: Of the convolutions.
        title: Of the progress bar.
        views: What is embedded of each image; the image as it is where None.

    Yields:
        images: (batch, 3, side, side) uint8, as read.
        embeddings: (batch, dim) float32, rows of unit L2 norm.
    """
    device = model.mean.device
    views = views or Views()
    model.eval()
    with tqdm(total=len(rows), desc=title, unit="image", disable=None, leave=False) as bar:
        for start in range(0, len(rows), batch_size):
            images = matrix[rows[start : start + batch_size]]
            with devices.autocast(device, dtype):
                embeddings = views.embed(model, torch.from_numpy(images).to(device))
            yield images, embeddings.cpu().numpy()
            bar.update(len(images))


def embed(
    model: EmbeddingModel,
    matrix: np.ndarray,
    rows: np.ndarray,
    batch_size: int,
    dtype: torch.dtype,
    title: str = "encode",
) -> np.ndarray:
    """Return the embeddings of some rows of an image matrix: (n, dim) float32."""
    blocks = embedding_blocks(model, matrix, rows, batch_size, dtype, title)
    parts = [embeddings for _, embeddings in blocks]
    return np.concatenate(parts) if parts else np.empty((0, model.config.dim), np.float32)
