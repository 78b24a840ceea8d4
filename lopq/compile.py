"""Compile all loops now, which takes seconds, so that no later process waits for it.

python -m lopq.compile
"""

import numpy as np

from lopq.coarse import TWO_LEVELS_FROM
from lopq.model import LOPQModel
from lopq.search import LOPQSearcher


def main() -> None:
    """Fit, encode and search a few drawn vectors: every loop of `lopq.kernels` runs."""
    rows = np.random.default_rng(0).normal(size=(2 * TWO_LEVELS_FROM, 2)).astype(np.float32)
    model = LOPQModel(TWO_LEVELS_FROM, 2, 2)
    model.fit(rows, kmeans_coarse_iters=1, kmeans_local_iters=1, verbose=False)
    searcher = LOPQSearcher(model)
    searcher.add_data(rows)
    searcher.search_batch(rows[:1], 1)
    model.reconstruct(model.predict(rows[0]))


if __name__ == "__main__":
    main()
