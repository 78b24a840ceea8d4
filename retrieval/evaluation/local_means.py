"""The class that a ranked list predicts, and features of that prediction.

The nearest neighbors of each class are averaged, and the class whose average is nearest is named
(local mean-based classification: Mitani and Hamamoto, A local mean-based nonparametric classifier,
Pattern Recognition Letters 2006). `calibration` turns the features into probabilities. The command,
the page and the API all name here, from the first ``NEIGHBORS``, however many are shown.
"""

from dataclasses import dataclass

import numpy as np

NEIGHBORS = 50  # length of the list
FEATURES = ("prototype", "ahead", "top", "mean", "share", "contrast")
SHARPNESS = 10.0  # per unit of cosine: how much more a nearer neighbor weighs in the average
NEAR = 10  # neighbors whose surroundings are compared
BLOCK = 256  # lists at once: bounds the memory


@dataclass(frozen=True)
class NamedClasses:
    """The class that each of n lists predicts, with features.

    Attributes:
        labels: (n,) int64, the class whose weighted average is nearest; -1 if no neighbor has one.
        shares: (n,) float64 in [0, 1], its share of a vote in which a neighbor counts by its
            similarity above that of the last one.
        features: (n, 6) float64, in the order of ``FEATURES``: the cosine of the query and the
            average of the named class; how far it is ahead of that of the next class; the highest
            similarity in the list; the mean one; the share; and by how much the first ten are
            nearer to the query than to their own ten nearest of the list, on average.
    """

    labels: np.ndarray
    shares: np.ndarray
    features: np.ndarray


def name_classes(
    similarities: np.ndarray,
    labels: np.ndarray,
    embeddings: np.ndarray,
    may_win: np.ndarray | None = None,
) -> NamedClasses:
    """Return the class that each list names.

    Args:
        similarities: (n, k) float, cosines of query and neighbors, each row descending.
        labels: (n, k) int64, class of each neighbor; those of -1 are passed over.
        embeddings: (n, k, dim) float32 of unit L2 norm, the neighbors.
        may_win: (n, k) bool: only classes of these neighbors can be named; None: all.

    >>> near = np.array([[[1.0, 0.0], [0.8, 0.6], [0.8, -0.6]]])
    >>> found = name_classes(near[:, :, 0] - 0.1, np.array([[3, 8, 8]]), near)
    >>> found.labels.tolist(), found.features[0, :2].round(2).tolist()
    ([3], [0.9, 0.02])
    """
    n = len(labels)
    found = NamedClasses(np.full(n, -1, np.int64), np.zeros(n), np.zeros((n, len(FEATURES))))
    for start in range(0, n, BLOCK):
        rows = np.arange(start, min(n, start + BLOCK))
        can_win = labels[rows] >= 0 if may_win is None else may_win[rows] & (labels[rows] >= 0)
        is_open = can_win.any(axis=1)
        if is_open.any():
            rows = rows[is_open]
            lists = _Lists.of(similarities[rows], labels[rows], embeddings[rows])
            _name(found, rows, lists, can_win[is_open])
    return found


@dataclass(frozen=True)
class _Lists:
    """Some lists; a place without a class, or beyond the end of its list, is not there.

    Attributes:
        similarities: (n, k) float64, 0 where nothing is there.
        labels: (n, k) int64.
        is_there: (n, k) bool, true somewhere in each row.
        last: (n,) float64, the lowest similarity of each list.
        products: (n, k, k) float64, cosines of neighbors.
        is_same: (n, k, k) bool: neighbors of one class.
    """

    similarities: np.ndarray
    labels: np.ndarray
    is_there: np.ndarray
    last: np.ndarray
    products: np.ndarray
    is_same: np.ndarray

    @classmethod
    def of(cls, similarities: np.ndarray, labels: np.ndarray, embeddings: np.ndarray) -> "_Lists":
        is_there = labels >= 0
        values = np.where(is_there, similarities, 0.0).astype(np.float64)
        last = np.where(is_there, values, np.inf).min(axis=1)
        products = (embeddings @ embeddings.transpose(0, 2, 1)).astype(np.float64)
        both = is_there[:, :, None] & is_there[:, None, :]
        is_same = (labels[:, :, None] == labels[:, None, :]) & both
        return cls(values, labels, is_there, last, products, is_same)

    def averages(self) -> np.ndarray:
        """Return the cosine of query and average of the class at each place, (n, k)."""
        first = np.where(self.is_there, self.similarities, -np.inf).max(axis=1, keepdims=True)
        weights = np.exp(SHARPNESS * (self.similarities - first)) * self.is_there
        of_class = self.is_same * weights[:, None, :]
        inner = (of_class @ self.similarities[:, :, None])[:, :, 0]
        squares = ((of_class @ self.products) * of_class).sum(axis=2)
        return inner / np.sqrt(np.maximum(squares, 1e-12))

    def shares(self) -> np.ndarray:
        """Return the share of the votes of the class at each place, (n, k)."""
        weights = np.where(self.is_there, self.similarities - self.last[:, None] + 1e-9, 0.0)
        weights /= weights.sum(axis=1, keepdims=True)
        return (self.is_same @ weights[:, :, None])[:, :, 0]

    def contrast(self) -> np.ndarray:
        """Return how much nearer the first neighbors are to the query than to others, (n,)."""
        k = self.labels.shape[1]
        both = self.is_there[:, :, None] & self.is_there[:, None, :] & ~np.eye(k, dtype=bool)
        others = -np.sort(-np.where(both, self.products, -np.inf), axis=2)[:, :, :NEAR]
        count = np.isfinite(others).sum(axis=2)
        means = np.where(np.isfinite(others), others, 0.0).sum(axis=2) / np.maximum(count, 1)
        gaps = np.where(count > 0, self.similarities - means, 0.0)
        is_near = self.is_there & (self.is_there.cumsum(axis=1) <= NEAR)
        return (gaps * is_near).sum(axis=1) / is_near.sum(axis=1)


def _name(found: NamedClasses, rows: np.ndarray, lists: _Lists, can_win: np.ndarray) -> None:
    """Fill in some rows; each has a place that can win, (n, k) bool."""
    averages = lists.averages()
    winner = np.where(can_win, averages, -np.inf).argmax(axis=1)
    line = np.arange(len(rows))
    is_other = lists.is_there & ~lists.is_same[line, winner]
    following = np.where(is_other, averages, -np.inf).max(axis=1)
    following = np.where(is_other.any(axis=1), following, lists.last)
    share = lists.shares()[line, winner]
    found.labels[rows] = lists.labels[line, winner]
    found.shares[rows] = share
    found.features[rows] = np.column_stack(
        [
            averages[line, winner],
            averages[line, winner] - following,
            np.where(lists.is_there, lists.similarities, -np.inf).max(axis=1),
            lists.similarities.sum(axis=1) / lists.is_there.sum(axis=1),
            share,
            lists.contrast(),
        ]
    )
