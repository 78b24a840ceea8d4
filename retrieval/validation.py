"""How well a model does on the validation images, after each epoch of training."""

import numpy as np
import torch

from retrieval import metrics, search
from retrieval.encode import embed
from retrieval.model import EmbeddingModel
from retrieval.training_data import TrainingData


def validate(
    model: EmbeddingModel, data: TrainingData, batch_size: int, dtype: torch.dtype
) -> dict[str, float]:
    """Return AUC and EER of the validation pairs, cmc@1 and map@R of the validation queries.

    Args:
        model: Put into evaluation mode.
        data: Its queries are searched among its gallery.
        batch_size: Images at once.
        dtype: Of the convolutions.
    """
    rows = np.unique(np.concatenate([data.gallery, data.queries[:, 0], data.pairs[:, :2].ravel()]))
    embeddings = embed(model, data.images, rows, batch_size, dtype, "validate")
    first, second = (embeddings[np.searchsorted(rows, data.pairs[:, side])] for side in (0, 1))
    scores = (first * second).sum(axis=1)
    auc, eer = metrics.pair_auc_and_eer(scores, data.pairs[:, 2] == 1)

    gallery = embeddings[np.searchsorted(rows, data.gallery)]
    queries = embeddings[np.searchsorted(rows, data.queries[:, 0])]
    gallery_labels, labels = data.labels[data.gallery], data.queries[:, 1]
    n_relevant = metrics.count_relevant(labels, gallery_labels)
    is_valued = n_relevant > 0
    ids, _ = search.nearest(queries[is_valued], gallery, int(n_relevant.max()))
    hits = metrics.find_hits(ids, labels[is_valued], gallery_labels)
    return {
        "auc": auc,
        "eer": eer,
        "cmc@1": float(metrics.cmc_at_k(hits, 1).mean()),
        "map@R": float(metrics.average_precision_at_r(hits, n_relevant[is_valued]).mean()),
    }
