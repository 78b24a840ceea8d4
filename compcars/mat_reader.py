"""Print variables of a MATLAB file as JSON: lists of lists, texts and numbers.

    python -m compcars.mat_reader make_names model_names < make_model_name.mat

scipy's reader crashes on some damaged files. ``tree.read_mat`` runs this in a process of its own,
which may.
"""

import io
import json
import sys
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Return an array, or a cell array of arrays, as nested lists.

    >>> plain(np.array([[np.array(["X5"]), np.array([], dtype="U1")]], dtype=object))
    [['X5', '']]
    """
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype == object:
        return [plain(item) for item in value]
    if value.size == 0:
        return ""
    return value.item() if value.size == 1 else value.tolist()


def main(*names: str) -> None:
    """Print the variables ``names`` of the file on stdin."""
    import scipy.io

    content = scipy.io.loadmat(io.BytesIO(sys.stdin.buffer.read()))
    json.dump([plain(content[name]) for name in names], sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
