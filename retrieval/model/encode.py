"""Encode images into embeddings, batch by batch.

On a GPU nothing waits: images arrive ahead of time (image_loader.py), and embeddings return while
the next batch runs. On a CPU, threads encode a batch in pieces (pieces.py).
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import torch
from tqdm import tqdm

from retrieval.compute import devices, distributed
from retrieval.data.image_loader import AsyncCopy, read_ahead
from retrieval.data.images import Images
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.pieces import Embed, in_pieces
from retrieval.model.runtime import Embedder
from retrieval.model.tta import Views


@torch.inference_mode()
def embedding_blocks(
    model: Embedder,
    matrix: Images,
    rows: np.ndarray,
    batch_size: int,
    dtype: torch.dtype,
    title: str,
    views: Views | None = None,
    compute: Embed | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Embed some rows of an image matrix, in their order.

    Args:
        model: On its device; switched to evaluation mode.
        matrix: (n_image, 3, side, side) uint8, may be a memory map.
        rows: (n,) int64 rows to embed.
        batch_size: Images per batch.
        dtype: Dtype of the convolutions.
        title: Title of the progress bar.
        views: Views to embed with torch; None embeds the plain image. A ``RuntimeModel`` has
            views of its own.
        compute: What to compute instead of embeddings, from (n, 3, side, side) images on the
            model's device.

    Yields:
        images: (batch, 3, side, side) uint8, as read.
        embeddings: (batch, dim) float32, rows of unit L2 norm.
    """
    device = model.mean.device
    model.eval()

    def embed_piece(images: torch.Tensor) -> torch.Tensor:
        with devices.autocast(device, dtype):
            if compute is not None:
                return compute(images)
            if isinstance(model, EmbeddingModel):
                return (views or Views()).embed(model, images)
            return model(images)

    def embed_batch(images: torch.Tensor) -> Callable[[], np.ndarray]:
        return AsyncCopy(embed_piece(images)).wait

    blocks = (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))
    is_quiet = None if distributed.is_main() else True
    bar = tqdm(total=len(rows), desc=title, unit="image", disable=is_quiet, leave=False)
    with ExitStack() as stack:
        stack.enter_context(bar)
        start, ahead = embed_batch, 1
        if device.type == "cpu" and isinstance(model, EmbeddingModel):
            pieces = stack.enter_context(in_pieces(embed_piece))
            start, ahead = pieces.start, pieces.batches_ahead(batch_size)
        started = deque[tuple[np.ndarray, Callable[[], np.ndarray]]]()
        for loaded in read_ahead(matrix, blocks, device):
            started.append((loaded.host, start(loaded.images)))
            if len(started) > ahead:
                images, wait = started.popleft()
                yield images, wait()
            bar.update(len(loaded.host))
        for images, wait in started:
            yield images, wait()


def embed(
    model: EmbeddingModel,
    matrix: Images,
    rows: np.ndarray,
    batch_size: int,
    dtype: torch.dtype,
    title: str = "encode",
) -> np.ndarray:
    """Return the embeddings of some rows of an image matrix: (n, dim) float32.

    With several processes, each embeds a part of them and gets all.
    """
    return _gathered(model, matrix, rows, batch_size, dtype, title, None, model.config.dim)


def pooled_features(
    model: EmbeddingModel, matrix: Images, rows: np.ndarray, batch_size: int, dtype: torch.dtype
) -> np.ndarray:
    """Return the backbone's pooled features of some rows: (n, width) float32, not normalized.

    With several processes, each computes a part of them and gets all.
    """
    width = model.projection.in_features
    return _gathered(model, matrix, rows, batch_size, dtype, "features", model.pooled, width)


def _gathered(
    model: EmbeddingModel,
    matrix: Images,
    rows: np.ndarray,
    batch_size: int,
    dtype: torch.dtype,
    title: str,
    compute: Embed | None,
    width: int,
) -> np.ndarray:
    part = distributed.own_part(len(rows), batch_size)
    own = rows[part.start : part.stop]
    blocks = embedding_blocks(model, matrix, own, batch_size, dtype, title, compute=compute)
    parts = [np.empty((0, width), np.float32), *(found for _, found in blocks)]
    return np.concatenate(distributed.gather(np.concatenate(parts)))
