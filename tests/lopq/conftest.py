"""Small drawn data and fitted models, shared by the tests of the library."""

import numpy as np
import pytest

from lopq import LOPQModel, LOPQSearcher

KINDS = {"single": {}, "multi": {"split": "multi"}, "4-bit": {"bits": 4}}


def draw(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Return (n, dim) float32 vectors in 12 clusters, each stretched along its own axes."""
    shape = np.random.default_rng(1234 + dim)
    centers = shape.normal(size=(12, dim)) * 2
    axes = shape.normal(size=(12, dim, dim)) / np.sqrt(dim)
    rng = np.random.default_rng(seed)
    cluster = rng.integers(12, size=n)
    noise = rng.normal(size=(n, dim)) * np.geomspace(2, 0.1, dim)
    return (centers[cluster] + np.einsum("nij,nj->ni", axes[cluster], noise)).astype(np.float32)


@pytest.fixture(scope="session")
def data() -> np.ndarray:
    """(1500, 16) training and database vectors."""
    return draw(1500, 16)


@pytest.fixture(scope="session")
def queries() -> np.ndarray:
    """(40, 16) other vectors of the same clusters."""
    return draw(40, 16, seed=1)


@pytest.fixture(scope="session", params=KINDS)
def searcher(request: pytest.FixtureRequest, data: np.ndarray) -> LOPQSearcher:
    """An index of all of ``data`` under each kind of model."""
    model = LOPQModel(V=6, M=4, subquantizer_clusters=32, **KINDS[request.param])
    filled = LOPQSearcher(model.fit(data))
    filled.add_data(data)
    return filled
