"""Vectors kept in the index to re-rank from, in fewer bytes than float32.

``float16`` rounds each value. ``int8`` keeps a scale per vector and whole numbers from -127 to 127:
an error of up to 1/254 of the largest value.
"""

from typing import Literal, get_args

import numpy as np

from lopq.errors import LOPQError

Keep = Literal["none", "float16", "int8"]

SCALE_BYTES = 4  # of int8: a float32 before the numbers
LARGEST_FLOAT16 = 65504.0


def check_keep(keep: str) -> Keep:
    """Return ``keep``, or raise `LOPQError`."""
    for known in get_args(Keep):
        if keep == known:
            return known
    raise LOPQError(f"keep must be one of {', '.join(get_args(Keep))}; got {keep!r}")


def kept_bytes(keep: Keep, dim: int) -> int:
    """Return the bytes that are kept of a vector of ``dim`` dimensions."""
    return {"none": 0, "float16": 2 * dim, "int8": SCALE_BYTES + dim}[keep]


def pack(vectors: np.ndarray, keep: Keep) -> np.ndarray:
    """Pack (n, dim) float32 vectors as (n, kept_bytes) uint8."""
    n, dim = vectors.shape
    packed = np.empty((n, kept_bytes(keep, dim)), np.uint8)
    if keep == "float16":
        if n and np.abs(vectors).max() > LARGEST_FLOAT16:
            raise LOPQError(f"keep='float16' takes values up to {LARGEST_FLOAT16:.0f}")
        packed[:] = vectors.astype("<f2").view(np.uint8)
    elif keep == "int8":
        scales = np.abs(vectors).max(axis=1, keepdims=True, initial=0).astype("<f4") / 127
        packed[:, :SCALE_BYTES] = scales.astype("<f4").view(np.uint8)
        whole = np.rint(vectors / np.where(scales > 0, scales, 1))
        packed[:, SCALE_BYTES:] = whole.astype(np.int8).view(np.uint8)
    return packed


def unpack(packed: np.ndarray, keep: Keep) -> np.ndarray:
    """Return the (n, dim) float32 vectors that `pack` packed, rounded."""
    packed = np.ascontiguousarray(packed)
    if keep == "float16":
        return packed.view("<f2").astype(np.float32)
    scales = np.ascontiguousarray(packed[:, :SCALE_BYTES]).view("<f4")
    whole = np.ascontiguousarray(packed[:, SCALE_BYTES:]).view(np.int8)
    return whole.astype(np.float32) * scales
