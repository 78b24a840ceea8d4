"""Images -> embeddings, batch by batch.

On a GPU nothing waits: images arrive ahead of time (prefetch.py), embeddings go back while the
next batch is computed. On a CPU a batch passes through the network in pieces that stay in its
caches.
"""

from collections.abc import Iterator

import numpy as np
import torch
from tqdm import tqdm

from retrieval.compute import devices, distributed
from retrieval.data.image_loader import AsyncCopy, read_ahead
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.runtime import RuntimeModel
from retrieval.model.tta import Views

CPU_PIECE = 8  # images that pass through the network at once on a CPU


@torch.inference_mode()
def embedding_blocks(
    model: EmbeddingModel | RuntimeModel,
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
    is_divided = device.type == "cpu" and isinstance(model, EmbeddingModel)
    piece = CPU_PIECE if is_divided else batch_size
    blocks = (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))
    is_quiet = None if distributed.is_main() else True
    with tqdm(total=len(rows), desc=title, unit="image", disable=is_quiet, leave=False) as bar:
        before: tuple[np.ndarray, AsyncCopy] | None = None
        for loaded in read_ahead(matrix, blocks, device):
            with devices.autocast(device, dtype):
                parts = [views.embed(model, images) for images in loaded.images.split(piece)]
            returning = AsyncCopy(torch.cat(parts) if len(parts) > 1 else parts[0])
            if before is not None:
                yield before[0], before[1].wait()
            before = loaded.host, returning
            bar.update(len(loaded.host))
        if before is not None:
            yield before[0], before[1].wait()


def embed(
    model: EmbeddingModel,
    matrix: np.ndarray,
    rows: np.ndarray,
    batch_size: int,
    dtype: torch.dtype,
    title: str = "encode",
) -> np.ndarray:
    """Return the embeddings of some rows of an image matrix: (n, dim) float32.

    Of several processes, each embeds a part of them and gets them all.
    """
    part = distributed.own_part(len(rows), batch_size)
    own = rows[part.start : part.stop]
    blocks = embedding_blocks(model, matrix, own, batch_size, dtype, title)
    parts = [np.empty((0, model.config.dim), np.float32), *(found for _, found in blocks)]
    return np.concatenate(distributed.gather(np.concatenate(parts)))
