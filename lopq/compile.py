"""Compile all kernels now, which takes seconds, so that no later process waits for it.

python -m lopq.compile
"""

import numpy as np

from lopq.model import LOPQModel
from lopq.searcher import LOPQSearcher
from lopq.train.coarse_quantizer import TWO_LEVELS_FROM


def main() -> None:
    """Fit, encode and search a few drawn vectors: every kernel of `lopq.kernels` runs."""
    rows = np.random.default_rng(0).normal(size=(2 * TWO_LEVELS_FROM, 2)).astype(np.float32)
    model = LOPQModel(TWO_LEVELS_FROM, 2, 2).fit(rows, 1, 1)
    searcher = LOPQSearcher(model)
    searcher.add_data(rows)
    searcher.search(rows[:1], 1)
    model.reconstruct(model.encode(rows[:1]))


if __name__ == "__main__":
    main()
