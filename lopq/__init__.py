"""Locally optimized product quantization: compact codes for vectors, and search over the codes.

    model = LOPQModel(V=64, M=16).fit(X)
    searcher = LOPQSearcher(model)
    searcher.add_data(X)
    scores, ids = searcher.search(Q, k=10, quota=5000)

Requires numpy, scipy, faiss, numba, threadpoolctl and tqdm. ``import lopq`` loads numpy only; the
first call that needs one of the others imports it. `lopq.compat` has the calls of the old package.
"""

from lopq.codes import LOPQCode
from lopq.compat.search import multisequence
from lopq.errors import LOPQError
from lopq.index.merge import merge_parts, read_part, save_part
from lopq.model import LOPQModel
from lopq.pca import eigenvalue_allocation
from lopq.searcher import LOPQSearcher

__all__ = [
    "LOPQCode",
    "LOPQError",
    "LOPQModel",
    "LOPQSearcher",
    "eigenvalue_allocation",
    "merge_parts",
    "multisequence",
    "read_part",
    "save_part",
]
