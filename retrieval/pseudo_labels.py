"""Pseudo-labels: classes guessed for images of another camera, to train on.

Unsupervised domain adaptation by self-training: the images that the model is surest about get the
class it takes them for, and are trained on beside the labelled ones (Fan et al., Unsupervised
Person Re-identification: Clustering and Fine-tuning, TOMM 2018; per class, so that easy classes
do not crowd out others: Zou et al., Unsupervised Domain Adaptation for Semantic Segmentation via
Class-Balanced Self-Training, ECCV 2018).
"""

from collections.abc import Iterator
from typing import Literal

import faiss
import numpy as np

Pseudo = Literal["centroid", "cluster", "none"]  # "none" guesses nothing: a control

UNKNOWN = -1


def class_centroids(embeddings: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes, (n_class,) ascending, and the directions of their means.

    Args:
        embeddings: (n, dim) float32.
        labels: (n,) int64.

    Returns:
        classes: (n_class,) int64.
        centroids: (n_class, dim) float32, rows of unit L2 norm.
    """
    classes, member = np.unique(labels, return_inverse=True)
    sums = np.zeros((len(classes), embeddings.shape[1]), np.float64)
    np.add.at(sums, member, embeddings)
    return classes, _unit(sums)


def guess(
    sources: np.ndarray,
    labels: np.ndarray,
    targets: np.ndarray,
    pseudo: Pseudo,
    share: float,
    seed: int,
) -> np.ndarray:
    """Return the class of each target image, or ``UNKNOWN`` where the guess is not sure.

    The mean of each domain is subtracted from its embeddings before: what sets all images of one
    camera apart says nothing about the car.

    Args:
        sources: (n_source, dim) float32 embeddings with labels.
        labels: (n_source,) int64.
        targets: (n_target, dim) float32 embeddings without.
        pseudo: ``centroid`` takes the class of the nearest centroid; ``cluster`` groups the
            targets by spherical k-means into as many clusters as there are classes, and takes the
            class of those clusters that are mutually nearest with a class.
        share: Of the images guessed to be of a class, the most similar ones that are kept.
        seed: Of the clusters.

    Returns:
        (n_target,) int64.
    """
    sources, targets = (_unit(rows - rows.mean(axis=0)) for rows in (sources, targets))
    classes, centroids = class_centroids(sources, labels)
    if pseudo == "cluster":
        guessed = _by_clusters(targets, centroids, seed)
    else:
        guessed = (targets @ centroids.T).argmax(axis=1)
    similarities = (targets * centroids[guessed]).sum(axis=1)
    similarities[guessed == UNKNOWN] = -np.inf
    found = np.full(len(targets), UNKNOWN, np.int64)
    for number, label in enumerate(classes):
        members = np.flatnonzero(guessed == number)
        best = members[np.argsort(-similarities[members], kind="stable")]
        found[best[: int(np.ceil(share * len(members)))]] = label
    return found


def _by_clusters(targets: np.ndarray, centroids: np.ndarray, seed: int) -> np.ndarray:
    n_cluster = min(len(centroids), len(targets))
    kmeans = faiss.Kmeans(
        targets.shape[1], n_cluster, niter=50, spherical=True, seed=seed, min_points_per_centroid=1
    )
    kmeans.train(targets)
    cluster = kmeans.index.search(targets, 1)[1][:, 0]
    scores = kmeans.centroids @ centroids.T  # (n_cluster, n_class)
    nearest = scores.argmax(axis=1)
    is_mutual = scores.argmax(axis=0)[nearest] == np.arange(n_cluster)
    return np.where(is_mutual, nearest, UNKNOWN)[cluster]


def class_batches(
    labels: np.ndarray, is_target: np.ndarray, p: int, k: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield batches of ``p`` classes and ``k`` images of each, without end.

    Half of a class's images are targets, where it has any; images are repeated where there are
    fewer.

    Args:
        labels: (n,) int64, ``UNKNOWN`` for images that are never drawn.
        is_target: (n,) bool.
        p: Classes; fewer where there are not so many.
        k: Images of a class, at least 2.
        rng: Of the draws.

    Yields:
        (p * k,) int64 positions, class by class.
    """
    known = labels != UNKNOWN
    classes = np.unique(labels[known & ~is_target])
    members = {
        label: [np.flatnonzero((labels == label) & (is_target == side)) for side in (False, True)]
        for label in classes
    }
    while True:
        batch = []
        for label in rng.choice(classes, min(p, len(classes)), replace=False):
            sources, targets = members[label]
            n_target = k // 2 if len(targets) else 0
            for pool, count in ((sources, k - n_target), (targets, n_target)):
                if count:
                    batch.append(rng.choice(pool, count, replace=len(pool) < count))
        yield np.concatenate(batch)


def _unit(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.maximum(norms, 1e-12)).astype(np.float32)
