"""The header of a .npy file, read without trusting it.

numpy evaluates the header as a Python literal, and a damaged one raises whatever comes of that, or
asks for more memory than the machine has. Here it must look as numpy writes it, and the file must
be as long as it says.

https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import math
import re
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

MAGIC = b"\x93NUMPY"
LENGTH_BYTES = {1: 2, 2: 4, 3: 4}  # format version -> bytes of the header's length
LONGEST = 1 << 16
HEADER = re.compile(
    r"\{'descr': '([<>|=]?[biuf]\d{1,2})', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,18},? ?)*)\),? ?\} *\n?"
)


class Header(NamedTuple):
    """Shape, dtype and data offset of a .npy file.

    Attributes:
        dtype: A boolean, integer or floating point type.
        shape: Lengths of the axes.
        order: ``C`` or ``F``.
        offset: Where the values begin, in bytes.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    offset: int


def read_header(path: Path) -> Header:
    """Return the header of a .npy file of plain numbers.

    Raises:
        ValueError: It is not such a file, or is longer or shorter than its header says.
    """
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8 or not start.startswith(MAGIC) or start[6] not in LENGTH_BYTES:
            raise ValueError("not a .npy file")
        n_byte = LENGTH_BYTES[start[6]]
        length = int.from_bytes(file.read(n_byte), "little")
        text = file.read(min(length, LONGEST)).decode("latin-1")
    match = HEADER.fullmatch(text)
    if match is None or len(text) != length:
        raise ValueError("its header is damaged, or it holds no plain numbers")
    try:
        dtype = np.dtype(match[1])
    except TypeError as error:
        raise ValueError(str(error)) from error
    shape = tuple(int(number) for number in re.findall(r"\d+", match[3]))
    header = Header(dtype, shape, "F" if match[2] == "True" else "C", 8 + n_byte + length)
    n_value_byte = math.prod(shape) * dtype.itemsize
    if header.offset + n_value_byte != path.stat().st_size:
        raise ValueError(f"it has {path.stat().st_size} bytes, not as many as its header says")
    return header


def map_array(path: Path) -> np.ndarray:
    """Map a .npy file of plain numbers into memory, read-only.

    Raises:
        ValueError: It is not such a file, or not a complete one.
    """
    header = read_header(path)
    if not math.prod(header.shape):
        return np.empty(header.shape, header.dtype)
    return np.memmap(path, header.dtype, "r", header.offset, header.shape, header.order)
