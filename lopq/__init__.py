"""Locally optimized product quantization: compact codes of vectors, and search among them.

    model = LOPQModel(V=64, M=16)
    model.fit(X)
    searcher = LOPQSearcher(model)
    searcher.add_data(X)
    scores, ids = searcher.search_batch(Q, k=10, quota=5000)

Needs numpy, scipy, faiss and tqdm, and nothing of the project around it.
"""

from lopq.codes import LOPQCode
from lopq.errors import LOPQError
from lopq.model import LOPQModel
from lopq.pca import eigenvalue_allocation
from lopq.probes import multisequence
from lopq.search import LOPQSearcher

__all__ = [
    "LOPQCode",
    "LOPQError",
    "LOPQModel",
    "LOPQSearcher",
    "eigenvalue_allocation",
    "multisequence",
]
