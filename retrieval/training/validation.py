"""Validation after each epoch of training, on a sample of the validation images.

A sample keeps as many classes as it can give ``LEAST_PER_CLASS`` images to, and an equal number of
images of each: a query has fewer images to be confused with than in an evaluation, and fewer to
find. The figures of one run compare its epochs; evaluate a checkpoint to compare it with others.
"""

import logging
from dataclasses import replace

import numpy as np
import torch

from retrieval.evaluation import metrics
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.encode import embed
from retrieval.search.exact import nearest_neighbors, without_own
from retrieval.training.dataset import TrainingData

log = logging.getLogger(__name__)

LEAST_PER_CLASS = 8  # images, or all of a smaller class: fewer classes rather than fewer images
SAMPLE = 5  # last entry of the seed, as in samplers.py
QUERIES = 1 / 3  # of a sample; the others are gallery images


def draw_sample(data: TrainingData, most: int, seed: int) -> TrainingData:
    """Return the data with about ``most`` of the images that validation embeds.

    Held-out classes come first; at least a quarter of ``most`` goes to the validation queries and
    their gallery. Their pairs are drawn anew among these: each query with an image of its class and
    with one of another class, as in ``valid.npy``.

    Args:
        data: The images and the split.
        most: Images; 0: all.
        seed: Seed of the draw.
    """
    if not most or len(validated_rows(data)) <= most:
        return data
    rng = np.random.default_rng([seed, SAMPLE])
    holdout = thin(data.holdout, data.labels, most, rng)
    n_known = max(most - len(holdout), most // 4)
    sample = _known_sample(data, n_known, rng) if len(_rows(data)) > n_known else data
    sample = replace(sample, holdout=holdout)
    log.info(
        "validation embeds %d of %d images: %d queries of %d classes among %d images%s",
        len(validated_rows(sample)),
        len(validated_rows(data)),
        len(sample.queries),
        len(np.unique(sample.queries[:, 1])),
        len(sample.gallery),
        f", and {len(holdout)} of held-out classes" if len(holdout) else "",
    )
    return sample


def _known_sample(data: TrainingData, most: int, rng: np.random.Generator) -> TrainingData:
    """Return the data with queries, gallery and pairs among ``most`` images."""
    labels, images = data.labels, data.queries[:, 0]
    if data.is_class_disjoint:
        images = gallery = thin(images, labels, most, rng)
    else:
        drawn = rng.permutation(np.unique(labels[images]))[: max(2, most // LEAST_PER_CLASS)]
        of_drawn = np.isin(labels, drawn)
        images = images[of_drawn[images]]
        images = thin(images, labels, max(2, round(QUERIES * most)), rng, len(drawn))
        gallery = data.gallery[of_drawn[data.gallery]]
        gallery = thin(gallery, labels, most - len(images), rng, len(drawn))
    pairs = []
    for image in images.tolist():
        is_own = labels[gallery] == labels[image]
        for partners, is_same in ((gallery[is_own & (gallery != image)], 1), (gallery[~is_own], 0)):
            if len(partners):
                pairs.append((image, rng.choice(partners), is_same))
    queries = data.queries[np.isin(data.queries[:, 0], images)]
    return replace(data, queries=queries, gallery=gallery, pairs=np.array(pairs).reshape(-1, 3))


def thin(
    rows: np.ndarray,
    labels: np.ndarray,
    most: int,
    rng: np.random.Generator,
    n_class: int | None = None,
) -> np.ndarray:
    """Return at most ``most`` of some images, evenly from the classes that are drawn.

    Args:
        rows: (n,) int64.
        labels: (n_image,) int64, the class of each row of the image matrix.
        most: Images.
        rng: Draws classes and images.
        n_class: Classes; None: as many as get ``LEAST_PER_CLASS`` images. Two at least.

    Returns:
        (n,) int64, ascending.
    """
    if len(rows) <= most:
        return rows
    shuffled = rng.permutation(rows)
    classes, numbers = np.unique(labels[shuffled], return_inverse=True)
    n_class = max(2, most // LEAST_PER_CLASS if n_class is None else n_class)
    is_drawn = rng.permutation(len(classes)) < n_class
    # The first image of every class, then the second of every class, and so on.
    by_class = np.argsort(numbers, kind="stable")
    starts = np.searchsorted(numbers[by_class], numbers)
    place = np.empty(len(rows), np.int64)
    place[by_class] = np.arange(len(rows))
    place -= starts
    order = np.argsort(np.where(is_drawn[numbers], place, len(rows)), kind="stable")
    n = min(most, int(is_drawn[numbers].sum()))
    return np.sort(shuffled[order[:n]])


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
