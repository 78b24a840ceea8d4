"""The training data belongs together."""

from pathlib import Path

import numpy as np
import pytest

from retrieval.data import layout
from retrieval.data.formats import InputError
from tests.conftest import train_small


def test_files_of_different_splits_are_refused(pipeline: Path) -> None:
    queries = np.array(layout.VALID_QUERIES.load(pipeline))
    leaked = np.array(layout.TRAIN.load(pipeline))[:1, :1]
    changed = queries.copy()
    changed[0, 0] = leaked[0, 0]
    layout.VALID_QUERIES.save(pipeline, changed)
    with pytest.raises(InputError, match="holds validation images"):
        train_small(pipeline)
    layout.VALID_QUERIES.save(pipeline, queries)
    layout.IMAGE_MATRIX.save(pipeline, np.array(layout.IMAGE_MATRIX.load(pipeline))[1:])
    with pytest.raises(InputError, match="has 47 images, but the split has 48"):
        train_small(pipeline)
