"""Readers for the old package's model files, which need neither that package nor protobuf.

``.lopq``: a protocol buffer, message LOPQModelParams with the fields D=1, V=2, M=3,
num_subquantizers=4 (uint32), Cs=5, Rs=6, mus=7, subs=8 (repeated messages). Each message holds
``values`` = 1 (packed float) and, except for the vectors in ``mus``, ``shape`` = 2 (uint32).
There are 2 Cs, 2 V Rs, 2 V mus and M subs. Known files state a wrong number of clusters, so all
sizes come from the shapes.

``.mat``: Cs (2, V, dim), Rs (2, V, dim, dim), mus (2, V, dim), subs (2, M/2, clusters, dim_sub).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lopq.compat.parameters import Parameters
from lopq.errors import LOPQError

MAT_AXES = {"Cs": 3, "Rs": 4, "mus": 3, "subs": 4}
SIZES = {2: "V", 3: "M"}
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types


def read_proto(path: str | Path) -> tuple[Parameters, dict[str, Any]]:
    """Read a ``.lopq`` file.

    Returns:
        parameters: (Cs, Rs, mus, subs), None for each part that the file lacks.
        sizes: V and M, each only if no shape gives it.

    Raises:
        LOPQError: The file cannot be read, is damaged, or holds no parameters.
    """
    path = Path(path)
    sizes: dict[str, int] = {}
    matrices: dict[int, list[np.ndarray]] = {5: [], 6: [], 7: [], 8: []}
    try:
        for field, value in _fields(path.read_bytes()):
            if field in matrices and isinstance(value, bytes):
                matrices[field].append(_matrix(value))
            elif field in SIZES and isinstance(value, int):
                sizes[SIZES[field]] = value
        Cs, Rs, mus, subs = (_two_splits(group) for group in matrices.values())
    except OSError as error:
        raise LOPQError(f"cannot read {path}: {error.strerror}") from error
    except (IndexError, ValueError) as error:
        raise LOPQError(f"{path} is not a model of the old package, or damaged") from error
    if not any(matrices.values()):
        raise LOPQError(f"{path} is not a model of the old package, or lacks all of its parts")
    Cs = None if Cs is None else [C[0] for C in Cs]
    if subs is not None:
        sizes.pop("M", None)
    if any(part is not None for part in (Cs, Rs, mus)):
        sizes.pop("V", None)
    return (Cs, Rs, _filled(mus), subs), sizes


def _two_splits(arrays: list[np.ndarray]) -> list[np.ndarray] | None:
    """Stack the arrays of each of the two splits; None if there are none."""
    if len(arrays) % 2:
        raise ValueError("a part of one split only")
    n = len(arrays) // 2
    return [np.stack(arrays[:n]), np.stack(arrays[n:])] if n else None


def _filled(mus: list[np.ndarray] | None) -> list[np.ndarray] | None:
    """Replace the NaN means that the old package stores for empty cells by 0."""
    if mus is None:
        return None
    return [np.where(np.isnan(mu).all(axis=-1, keepdims=True), 0, mu) for mu in mus]


def _matrix(message: bytes) -> np.ndarray:
    """Decode a Matrix or Vector message."""
    chunks: list[np.ndarray] = []
    shape: list[int] = []
    for field, value in _fields(message):
        if field == 1 and isinstance(value, bytes):
            chunks.append(np.frombuffer(value, "<f4"))
        elif field == 2 and isinstance(value, bytes):  # packed, as newer writers may store it
            shape += [number for number, _ in _varints(value)]
        elif field == 2 and isinstance(value, int):
            shape.append(value)
    values = np.concatenate(chunks)
    return values.reshape(shape) if shape else values


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) for each field: int for varints, bytes for other types."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if wire == BYTES:
            length, at = _varint(message, at)
        elif wire in (FIXED64, FIXED32):
            length = 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + length > len(message):
            raise ValueError("cut off")
        yield key >> 3, message[at : at + length]
        at += length


def _varints(message: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    while at < len(message):
        value, at = _varint(message, at)
        yield value, at


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Decode the varint at ``at`` (7 bits per byte, lowest first); return it and its end."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def read_mat(path: str | Path) -> Parameters:
    """Read (Cs, Rs, mus, subs) from a ``.mat`` file; unlike the old reader, also for V=1 or M=2.

    Raises:
        LOPQError: The file cannot be read, is damaged, or lacks a part.
    """
    import scipy.io

    path = Path(path)
    try:
        content = scipy.io.loadmat(path)
        Cs, Rs, mus, subs = (_of_two(content[name], axes) for name, axes in MAT_AXES.items())
    except OSError as error:
        raise LOPQError(f"cannot read {path}: {error}") from error
    except Exception as error:  # scipy raises a dozen types of errors on damaged files
        raise LOPQError(f"{path} is not a model of the old package, or damaged") from error
    return Cs, Rs, _filled(mus), subs


def _of_two(value: object, axes: int) -> list[np.ndarray]:
    """Split a MATLAB array into the arrays of the two splits, each with ``axes - 1`` axes."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or array.ndim > axes or len(array) != 2:
        raise ValueError(f"{array.dtype} of shape {array.shape}")
    # MATLAB drops trailing axes of length 1 (scipy does not).
    return list(array.reshape(array.shape + (1,) * (axes - array.ndim)))
