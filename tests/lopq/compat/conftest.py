"""The same index as in the folder above, with the calls of the old package."""

import numpy as np
import pytest

from lopq.compat import LOPQModel, LOPQSearcher

KINDS = {"single": {"split": "single"}, "multi": {}, "4-bit": {"split": "single", "bits": 4}}


@pytest.fixture(scope="session", params=KINDS)
def searcher(request: pytest.FixtureRequest, data: np.ndarray) -> LOPQSearcher:
    """An index of all of ``data`` under each kind of model."""
    model = LOPQModel(V=6, M=4, subquantizer_clusters=32, **KINDS[request.param])
    filled = LOPQSearcher(model.fit(data, n_init=1))
    filled.add_data(data)
    return filled
