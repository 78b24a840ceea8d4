"""Validation after each epoch of training."""

import numpy as np
import torch

from retrieval.evaluation import metrics
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.encode import embed
from retrieval.search.nearest import nearest_neighbors, without_own
from retrieval.training.dataset import TrainingData


def validated_rows(data: TrainingData) -> np.ndarray:
    """Return the images that are embedded after each epoch, (n,) int64."""
    return np.concatenate([_rows(data), data.holdout])


def _rows(data: TrainingData) -> np.ndarray:
    parts = (data.gallery, data.queries[:, 0], data.pairs[:, :2].ravel())
    return np.unique(np.concatenate(parts))


def validate(
    model: EmbeddingModel, data: TrainingData, batch_size: int, dtype: torch.dtype
) -> dict[str, float]:
    """Return AUC and EER of the validation pairs, cmc@1 and map@R of the validation queries.

    Args:
        model: Switched to evaluation mode.
        data: Its queries are searched in its gallery; with a class-disjoint split, both are the
            same images.
        batch_size: Images per batch.
        dtype: Dtype of the convolutions.
    """
    rows = _rows(data)
    embeddings = embed(model, data.images, rows, batch_size, dtype, "validate")
    first, second = (embeddings[np.searchsorted(rows, data.pairs[:, side])] for side in (0, 1))
    scores = (first * second).sum(axis=1)
    auc, eer = metrics.pair_auc_and_eer(scores, data.pairs[:, 2] == 1)

    gallery = embeddings[np.searchsorted(rows, data.gallery)]
    queries = embeddings[np.searchsorted(rows, data.queries[:, 0])]
    gallery_labels, labels = data.labels[data.gallery], data.queries[:, 1]
    device = str(model.mean.device)
    found = retrieve(queries, labels, gallery, gallery_labels, data.is_class_disjoint, device)
    return {"auc": auc, "eer": eer, **found}


def validate_on_new_classes(
    model: EmbeddingModel, data: TrainingData, batch_size: int, dtype: torch.dtype
) -> dict[str, float]:
    """Return cmc@1 and map@R of held-out classes; each image is searched among the others.

    The arguments are those of ``validate``. Without held-out classes, the result is empty.
    """
    if not len(data.holdout):
        return {}
    embeddings = embed(model, data.images, data.holdout, batch_size, dtype, "held-out classes")
    labels = data.labels[data.holdout]
    device = str(model.mean.device)
    found = retrieve(embeddings, labels, embeddings, labels, is_same_set=True, device=device)
    return {f"new {name}": value for name, value in found.items()}


def retrieve(
    queries: np.ndarray,
    labels: np.ndarray,
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    is_same_set: bool = False,
    device: str = "cpu",
) -> dict[str, float]:
    """Return the mean cmc@1 and map@R over the queries that have a relevant image.

    Args:
        queries: (n_query, dim) float32 embeddings.
        labels: (n_query,) int64.
        gallery: (n_gallery, dim) float32 embeddings.
        gallery_labels: (n_gallery,) int64.
        is_same_set: The queries are the gallery; no query retrieves itself.
        device: Where to search; the processes of torchrun share the gallery.
    """
    n_relevant = metrics.count_relevant(labels, gallery_labels) - is_same_set
    is_valued = n_relevant > 0
    depth = int(n_relevant.max())
    ids, similarities = nearest_neighbors(
        queries[is_valued], gallery, depth + is_same_set, device=device, is_shared=True
    )
    if is_same_set:
        ids, _ = without_own(ids, similarities, np.flatnonzero(is_valued))
    hits = metrics.find_hits(ids, labels[is_valued], gallery_labels)
    return {
        "cmc@1": float(metrics.cmc_at_k(hits, 1).mean()),
        "map@R": float(metrics.average_precision_at_r(hits, n_relevant[is_valued]).mean()),
    }
