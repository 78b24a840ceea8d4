"""Training data that is drawn for a test."""

import numpy as np

from retrieval.training.dataset import TrainingData


def drawn_data(n_class: int = 6, per_class: int = 5) -> TrainingData:
    """Return data without images: every class has one validation query."""
    labels = np.repeat(np.arange(n_class) * 10, per_class)
    rows = np.arange(len(labels))
    is_query = rows % per_class == 0
    pairs = [(a, b) for a in rows for b in rows if a < b and labels[a] == labels[b]]
    known = [pair for pair in pairs if not is_query[list(pair)].any()]
    rng = np.random.default_rng(0)
    negatives = [rng.choice(rows[~is_query & (labels != labels[a])], 4) for a, _ in known]
    tuples = np.column_stack([np.array(known), np.array(negatives)])
    queries = np.column_stack([rows[is_query], labels[is_query]])
    valid = np.column_stack([rows[is_query], rows[is_query] + 1, np.ones(n_class, int)])
    gallery = rows[~is_query]
    empty = np.empty(0, np.int64)
    images = np.zeros((len(labels), 3, 1, 1), np.uint8)
    both = (tuples, tuples[:, [1, 0, 2, 3, 4, 5]])
    return TrainingData(images, both, valid, queries, labels, gallery, gallery, empty)
