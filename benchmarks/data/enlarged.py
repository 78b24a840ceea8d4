"""Real embeddings, enlarged to any number of vectors, drawn block by block.

A vector is a real embedding plus a random combination of the differences to its nearest ones, plus
noise: the local shape of the real data stays, and no two vectors are equal. Row i is the same
whatever the block. Neighbors found here are exact.
"""

from dataclasses import dataclass

import faiss
import numpy as np
import torch

from lopq.kernels import inner, kernel
from lopq.parallel import in_blocks

K = 10
NEAR = 8  # differences that are combined
SPREAD = np.float32(0.6)  # length of the combination, in mean differences
NOISE = np.float32(0.3)  # noise per dimension, in mean differences per dimension
QUERIES_FROM = 2**62  # rows from here on are queries, apart from the database's
ROWS_AT_ONCE = 131_072


@dataclass(frozen=True)
class Source:
    """Real embeddings to enlarge.

    Attributes:
        rows: (m, dim) float32.
        near: (m, NEAR) int64 nearest rows.
        noise: (m,) float32 standard deviation of the noise per dimension.
    """

    rows: np.ndarray
    near: np.ndarray
    noise: np.ndarray

    @classmethod
    def of(cls, embeddings: np.ndarray, dim: int) -> "Source":
        """Return a source of the first ``dim`` dimensions of ``embeddings``."""
        rows = np.ascontiguousarray(embeddings[:, :dim], np.float32)
        distances, near = faiss.knn(rows, rows, NEAR + 1)
        scale = np.sqrt(distances[:, 1:].mean(axis=1) / rows.shape[1])
        return cls(rows, np.ascontiguousarray(near[:, 1:]), NOISE * scale.astype(np.float32))

    def block(self, first: int, n: int) -> np.ndarray:
        """Return rows first to first + n, (n, dim) float32."""
        drawn = np.empty((n, self.rows.shape[1]), np.float32)

        def draw(part: slice) -> None:
            _draw(self.rows, self.near, self.noise, first + part.start, drawn[part])

        in_blocks(draw, n, 4096)
        return drawn

    def queries(self, n: int) -> np.ndarray:
        """Return (n, dim) float32 queries, none of which is in a database."""
        return self.block(QUERIES_FROM, n)


@kernel
def _draw(
    rows: np.ndarray, near: np.ndarray, noise: np.ndarray, first: int, out: np.ndarray
) -> None:
    n, dim = out.shape
    for i in range(n):
        state = mixed(np.uint64(first) + np.uint64(i))
        seed = int(state % np.uint64(len(rows)))
        out[i] = rows[seed]
        for j in range(near.shape[1]):
            state = mixed(state)
            weight = SPREAD / np.float32(np.sqrt(near.shape[1])) * normal(state)
            other = near[seed, j]
            for d in range(dim):
                out[i, d] += weight * (rows[other, d] - rows[seed, d])
        for d in range(dim):
            state = mixed(state)
            out[i, d] += noise[seed] * normal(state)


@inner
def mixed(state: np.uint64) -> np.uint64:
    """Return the next state (SplitMix64: Steele, Lea, Flood, OOPSLA 2014)."""
    z = state + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@inner
def normal(state: np.uint64) -> np.float32:
    """Return the scaled sum of four 16-bit uniform numbers: mean 0, variance 1, bell-shaped."""
    total = np.float32(0)
    for part in range(4):
        total += np.float32((state >> np.uint64(16 * part)) & np.uint64(0xFFFF))
    return (total / np.float32(65535) - np.float32(2)) * np.float32(3**0.5)


class Truth:
    """The exact nearest neighbors of queries among the blocks seen so far.

    Args:
        queries: (n_query, dim) float32.
        k: Neighbors per query.
    """

    def __init__(self, queries: np.ndarray, k: int = K) -> None:
        self.queries, self.k = torch.from_numpy(queries), k
        self.scores = torch.full((len(queries), k), -torch.inf)
        self.ids = torch.full((len(queries), k), -1)

    def see(self, first: int, rows: np.ndarray) -> None:
        """Compare with rows (n, dim) whose ids start at ``first``."""
        block = torch.from_numpy(rows)
        # 2 q.x - x.x orders rows by L2 distance to q.
        scores = torch.addmm(-(block * block).sum(1)[None], self.queries, block.T, alpha=2)
        if not first:
            self.scores, self.ids = scores.topk(self.k, dim=1)
            return
        better = scores > self.scores[:, -1:]
        for query in better.any(dim=1).nonzero()[:, 0].tolist():
            (columns,) = better[query].nonzero(as_tuple=True)
            near = torch.cat([self.scores[query], scores[query, columns]])
            ids = torch.cat([self.ids[query], columns + first])
            self.scores[query], order = near.topk(self.k)
            self.ids[query] = ids[order]
