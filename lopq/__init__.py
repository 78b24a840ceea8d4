"""Locally optimized product quantization: compact codes for vectors, and search over the codes.

    model = LOPQModel(V=64, M=16)
    model.fit(X)
    searcher = LOPQSearcher(model)
    searcher.add_data(X)
    scores, ids = searcher.search_batch(Q, k=10, quota=5000)

Requires numpy, scipy, faiss, numba, threadpoolctl and tqdm. ``import lopq`` loads numpy only; the
first call that needs one of the others imports it.
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
