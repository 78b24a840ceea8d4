"""Print variables of a MATLAB file as JSON: lists of lists, texts and numbers.

    python -m retrieval.data.mat_reader make_names model_names < make_model_name.mat

scipy's reader crashes on some damaged files. `read_mat` runs this module in a process of its own,
which may.
"""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.data.formats import InputError

LONGEST_READ = 120  # seconds


def read_mat(path: Path, *names: str) -> list[Any]:
    """Return the variables ``names`` of a MATLAB file, as nested lists.

    As `plain` makes them: one value is that value, none an empty text, a struct a dict.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; unpack it again")
    words = [sys.executable, "-m", __name__, *names]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        words, input=path.read_bytes(), capture_output=True, timeout=LONGEST_READ, cwd=root
    )
    if done.returncode:
        raise InputError(f"{path} has no {' and '.join(names)}, or is damaged; unpack it again")
    return list(json.loads(done.stdout))


def plain(value: Any) -> Any:
    """Return an array, or a cell array of arrays, as nested lists.

    >>> plain(np.array([[np.array(["X5"]), np.array([], dtype="U1")]], dtype=object))
    [['X5', '']]
    """
    if isinstance(value, np.ndarray | np.void) and value.dtype.names:
        return {name: plain(value[name]) for name in value.dtype.names}
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
