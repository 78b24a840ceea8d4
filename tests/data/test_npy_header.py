"""Headers of .npy files: numpy's own are read, and whatever else is refused."""

import io
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.data.npy_header import map_array, read_header

DTYPES = ("<f4", "<f8", "<i8", "|u1", "|b1", ">i4", "<f2")


def test_what_numpy_writes_is_read(tmp_path: Path) -> None:
    shapes: tuple[tuple[int, ...], ...] = ((), (3,), (0, 4), (2, 3), (2, 3, 4, 5))
    versions = ((1, 0), (2, 0), (3, 0))
    for dtype, shape, order, version in product(DTYPES, shapes, "CF", versions):
        array = np.asarray(np.arange(int(np.prod(shape))).reshape(shape).astype(dtype), order=order)
        with (tmp_path / "a.npy").open("wb") as file:
            np.lib.format.write_array(file, array, version)
        found = map_array(tmp_path / "a.npy")
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array, f"{shape} {order} {version}")


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999, 9), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': ((2,), 4), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }",
        "{'descr': '<f3', 'fortran_order': False, 'shape': (2,), }",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }",
        "(" * 5000,
        "",
    ],
)
def test_hostile_headers_are_refused(tmp_path: Path, header: str) -> None:
    text = header.encode()
    start = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    (tmp_path / "a.npy").write_bytes(start + bytes(64))
    with pytest.raises(ValueError, match="header|dtype|data type"):
        map_array(tmp_path / "a.npy")


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("npy") / "a.npy"


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 200), st.integers(0, 255), st.booleans())
def test_a_damaged_file_is_refused_or_has_the_same_form(
    damaged: Path, at: int, byte: int, is_cut: bool
) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(12, dtype=np.float32).reshape(3, 4))
    data = bytearray(buffer.getvalue())
    at %= len(data)
    if is_cut:
        data = data[:at]
    else:
        data[at] = byte
    damaged.write_bytes(data)
    try:
        header = read_header(damaged)
    except ValueError:
        return
    assert np.prod(header.shape) * header.dtype.itemsize == 48
