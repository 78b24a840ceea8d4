"""Images that occur twice: the same pixels, or the same picture saved another way.

One pass computes two marks of each image: a digest of its bytes, and a perceptual hash of 64 bits,
the signs of its low cosine frequencies about their median (C. Zauner, Implementation and
Benchmarking of Perceptual Image Hash Functions, 2010). Images with near hashes are compared as
small pictures. Embeddings are not used: they are trained to bring two photos of one class
together, so they cannot tell a copy from a second photo.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from tqdm import tqdm

READ_BLOCK = 64  # images read at once
HASH_SIDE = 8  # frequencies of a hash along each axis: 64 bits
PICTURE_SIDE = 32  # px, of the pictures that are compared
QUERY_BLOCK = 4096  # hashes searched at once
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class Marks:
    """Marks that recognize images.

    Attributes:
        digests: (n, 16) uint8 of all bytes of each image.
        hashes: (n, 8) uint8, 64 bits that survive scaling, compression and brightness.
        contrasts: (n,) float32 standard deviation of the luma, in grey levels of 255.
    """

    digests: np.ndarray
    hashes: np.ndarray
    contrasts: np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Pairs of images, the smaller row first.

    Attributes:
        first: (n,) int64 rows.
        second: (n,) int64 rows.
        distances: (n,) int64 bits in which the hashes differ, 0 to 64.
    """

    first: np.ndarray
    second: np.ndarray
    distances: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, chosen: np.ndarray) -> "Pairs":
        return Pairs(self.first[chosen], self.second[chosen], self.distances[chosen])


class ImageMatrices:
    """Several image matrices, their rows numbered in one sequence."""

    def __init__(self, matrices: Sequence[np.ndarray]) -> None:
        self.matrices = matrices
        self.starts = np.cumsum([0, *(len(matrix) for matrix in matrices)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, row: int) -> np.ndarray:
        """Return the image at ``row``, (3, side, side) uint8."""
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.matrices[number][row - self.starts[number]]

    def marks(self) -> Marks:
        """Read every image once, in order, and return its marks."""
        parts = [_marks(matrix) for matrix in self.matrices]
        return Marks(
            np.concatenate([part.digests for part in parts]),
            np.concatenate([part.hashes for part in parts]),
            np.concatenate([part.contrasts for part in parts]),
        )

    def similarities(self, pairs: Pairs) -> np.ndarray:
        """Return the similarity of each pair's pictures, (n,) float32 in [-1, 1].

        It is the correlation of the colors of both, scaled down to 32 px: 1 for the same picture
        in another brightness or contrast.
        """
        values = np.empty(len(pairs), np.float32)
        steps = range(0, len(pairs), READ_BLOCK)
        for start in tqdm(steps, desc="comparison", unit="block", disable=None, leave=False):
            rows = slice(start, start + READ_BLOCK)
            first = np.stack([_small(self[row]) for row in pairs.first[rows]])
            second = np.stack([_small(self[row]) for row in pairs.second[rows]])
            values[rows] = (first * second).sum(axis=1)
        return values


def near_pairs(
    hashes: np.ndarray, max_distance: int, neighbors: int = 50
) -> tuple[Pairs, np.ndarray]:
    """Return all pairs of hashes that differ in at most ``max_distance`` bits.

    All are compared with all by faiss, 64 bits at a time, in blocks; memory grows with what is
    found, which ``neighbors`` bounds.

    Args:
        hashes: (n, 8) uint8.
        max_distance: Bits.
        neighbors: Nearest others that are looked at for each hash. A pair is found when either
            of the two is among the nearest of the other.

    Returns:
        The pairs, ordered by (first, second), and (n,) bool: hashes that have more near others
        than ``neighbors``, of which pairs may be missing.

    >>> pairs, _ = near_pairs(np.array([[0] * 8, [255] * 8, [1] + [0] * 7], np.uint8), 1)
    >>> pairs.first.tolist(), pairs.second.tolist(), pairs.distances.tolist()
    ([0], [2], [1])
    """
    import faiss

    n = len(hashes)
    found = [np.empty((0, 3), np.int64)]
    is_full = np.zeros(n, bool)
    if n > 1:
        index = faiss.IndexBinaryFlat(hashes.shape[1] * 8)
        index.add(np.ascontiguousarray(hashes))
        depth = min(n, neighbors + 2)  # itself, and one more to see whether there are more
        steps = range(0, n, QUERY_BLOCK)
        for start in tqdm(steps, desc="hashes", unit="block", disable=None, leave=False):
            block = np.ascontiguousarray(hashes[start : start + QUERY_BLOCK])
            distances, ids = index.search(block, depth)
            is_near = (distances <= max_distance) & (ids >= 0)
            is_full[start : start + len(block)] = is_near.sum(axis=1) > neighbors + 1
            row, column = np.nonzero(is_near)
            pair = np.sort(np.column_stack([start + row, ids[row, column]]), axis=1)
            found.append(np.column_stack([pair, distances[row, column]])[pair[:, 0] < pair[:, 1]])
    first, second, distances = np.unique(np.concatenate(found), axis=0).T
    return Pairs(first, second, distances), is_full


def hash_distances(hashes: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Count the bits in which the hashes of each pair differ, (n,) int64."""
    return np.unpackbits(hashes[first] ^ hashes[second], axis=1).sum(axis=1, dtype=np.int64)


def _marks(matrix: np.ndarray) -> Marks:
    """Return the marks of an image matrix, (n, 3, side, side) uint8."""
    digests = np.empty((len(matrix), 16), np.uint8)
    hashes = np.empty((len(matrix), HASH_SIDE), np.uint8)
    contrasts = np.empty(len(matrix), np.float32)
    to_frequencies = _frequencies(matrix.shape[-1])
    steps = range(0, len(matrix), READ_BLOCK)
    for start in tqdm(steps, desc="images", unit="block", disable=None, leave=False):
        rows = slice(start, start + READ_BLOCK)
        block = np.ascontiguousarray(matrix[rows])
        for offset, image in enumerate(block):
            digest = hashlib.blake2b(image.data, digest_size=16).digest()
            digests[start + offset] = np.frombuffer(digest, np.uint8)
        luma = (LUMA @ block.reshape(len(block), 3, -1).astype(np.float32)).reshape(
            len(block), *block.shape[2:]
        )
        contrasts[rows] = luma.std(axis=(1, 2))
        values = (to_frequencies @ luma @ to_frequencies.T).reshape(len(block), -1)
        is_above = values > np.median(values, axis=1, keepdims=True)
        hashes[rows] = np.packbits(is_above, axis=1)
    return Marks(digests, hashes, contrasts)


def _frequencies(side: int) -> np.ndarray:
    """Return the map from a line to its cosine frequencies 1 to 8, (8, side) float32."""
    from scipy.fft import dct

    waves = dct(np.eye(32), axis=0, norm="ortho")[1 : HASH_SIDE + 1]
    return (waves @ _area_weights(side, 32)).astype(np.float32)


@cache
def _area_weights(side: int, cells: int) -> np.ndarray:
    """Return each pixel's weight in the mean of each cell of a line, (cells, side) float64.

    >>> _area_weights(3, 2).round(2).tolist()
    [[0.67, 0.33, 0.0], [0.0, 0.33, 0.67]]
    """
    edges = np.arange(cells + 1)[:, None] * side / cells
    covered = np.clip(edges - np.arange(side), 0, 1)  # of each pixel, left of each edge
    return np.diff(covered, axis=0) * cells / side


def _small(image: np.ndarray) -> np.ndarray:
    """Scale an image down, and return it as a vector of mean 0 and norm 1."""
    weights = _area_weights(image.shape[-1], PICTURE_SIDE).astype(np.float32)
    vector = (weights @ image.astype(np.float32) @ weights.T).astype(np.float64).ravel()
    vector -= vector.mean()
    return vector / max(float(np.linalg.norm(vector)), 1e-12)
