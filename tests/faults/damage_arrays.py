"""Damages of .npy files."""

import io
import pickle
import struct
from pathlib import Path

import numpy as np

from tests.faults.damage import Touch, damages

SHAPES = [
    "()", "(-1,)", "(0,)", "(1,)", "(99999999999999, 2)", "(2**70,)", "(-5, -5)", "((2, 3), 4)",
    "(True, 4)", "(None,)", "[48, 3]", "48", "'48'", "(1.5, 2)", "(" * 90 + ")" * 90,
    "(9223372036854775807, 9223372036854775807)", "(1,) * 10", "(4294967296, 4294967296)",
    "(0, 99999999999999999)", "(48, 3, 32, 32, 0)",
]  # fmt: skip
TYPES = [
    "'|O'", "'<f8'", "'>f4'", "'<i4'", "'|V8'", "'<U9999999'", "'<M8[ns]'", "'|b1'", "'<c16'",
    "None", "[('a', '<f4')]", "[('a', '<f4', (999999999,))]", "''", "'nonsense'", "5", "'|S0'",
    "'<f2'", "[('a', '|O')]", "'<i8'", "{}",
]  # fmt: skip


def _save(path: Path, header: str, body: bytes, version: tuple[int, int] = (1, 0)) -> None:
    text = header.encode("latin1", "replace") + b"\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text) % 65536)
    path.write_bytes(b"\x93NUMPY" + bytes(version) + length + text + body)


def _parts(path: Path) -> tuple[str, str, bytes]:
    """Return the dtype and the shape of a file, as in its header, and its data."""
    data = path.read_bytes()
    file = io.BytesIO(data)
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return repr(dtype.str), repr(shape), data[file.tell() :]


@damages("array", expect="refuse")
def _header_bit(path: Path, random: np.random.Generator) -> None:
    data = bytearray(path.read_bytes())
    data[random.integers(0, 80)] ^= 1 << int(random.integers(0, 8))
    path.write_bytes(data)


@damages("array", expect="refuse")
def _header_bytes(path: Path, random: np.random.Generator) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(random.integers(1, 6)):
        data[random.integers(6, 128)] = random.integers(0, 256)
    path.write_bytes(data)


@damages("array", expect="any")
def _data_bit(path: Path, random: np.random.Generator) -> None:
    data = bytearray(path.read_bytes())
    data[random.integers(min(128, len(data) - 1), len(data))] ^= 1 << int(random.integers(0, 8))
    path.write_bytes(data)


@damages("array", expect="refuse")
def _other_shape(path: Path, random: np.random.Generator) -> None:
    dtype, _, body = _parts(path)
    shape = SHAPES[random.integers(0, len(SHAPES))]
    _save(path, f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}", body)


@damages("array", expect="refuse")
def _other_type(path: Path, random: np.random.Generator) -> None:
    dtype, shape, body = _parts(path)
    other = TYPES[random.integers(0, len(TYPES))]
    other = "'<f8'" if other == dtype else other
    _save(path, f"{{'descr': {other}, 'fortran_order': False, 'shape': {shape}, }}", body)


@damages("array", expect="refuse")
def _odd_header(path: Path, random: np.random.Generator) -> None:
    dtype, shape, body = _parts(path)
    headers = [
        "{}", "", "[]", "(" * 5000, "{'descr': '<f4'}",
        "__import__('os').mkdir('code was executed')",
        f"{{'descr': {dtype}, 'fortran_order': 7, 'shape': {shape}}}", "{" * 300 + "}" * 300,
        f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, 'more': 1}}", "\x00" * 60,
        "{'descr': " + "[" * 60 + "]" * 60 + "}", "-" * 9999 + "1", "{1: 2, [3]: 4}", "9" * 5000,
    ]  # fmt: skip
    version = [(1, 0), (2, 0), (3, 0), (9, 9)][random.integers(0, 4)]
    _save(path, headers[random.integers(0, len(headers))], body, version)


@damages("array", expect="any")
def _fortran_order(path: Path, random: np.random.Generator) -> None:
    dtype, shape, body = _parts(path)
    _save(path, f"{{'descr': {dtype}, 'fortran_order': True, 'shape': {shape}, }}", body)


@damages("array", expect="any")
def _special_values(path: Path, random: np.random.Generator) -> None:
    array = np.load(path).copy()
    is_float = np.issubdtype(array.dtype, np.floating)
    limits = np.finfo(array.dtype) if is_float else np.iinfo(array.dtype)
    values = [limits.min, limits.max, 0, 1] + ([np.nan, np.inf, -np.inf] if is_float else [-1, 48])
    value = np.array(values[random.integers(0, len(values))]).astype(array.dtype)
    where = random.random(array.shape) < [0.02, 0.5, 1.1][random.integers(0, 3)]
    array[where] = value
    np.save(path, array)


@damages("array", expect="any")
def _other_rows(path: Path, random: np.random.Generator) -> None:
    array = np.load(path)
    rows = [array[:0], array[:1], array[:-1], np.concatenate([array, array[:1]]), array[::-1]]
    np.save(path, [*rows, array[..., :0]][random.integers(0, 6)])


@damages("array", expect="refuse")
def _other_axes(path: Path, random: np.random.Generator) -> None:
    array = np.load(path)
    others = [array[None], array.reshape(-1, 1, 1, 1, 1), array.astype("f2"), array[0]]
    np.save(path, others[random.integers(0, 4)])


@damages("array", expect="refuse")
def _npz(path: Path, random: np.random.Generator) -> None:
    array, buffer = np.load(path), io.BytesIO()
    np.savez(buffer, array)
    path.write_bytes(buffer.getvalue())


@damages("array", expect="refuse")
def _object_array(path: Path, random: np.random.Generator) -> None:
    values = np.empty(3, object)
    values[:] = [Touch(), Touch(), pickle.dumps(1)]
    np.save(path, values, allow_pickle=True)


@damages("array", expect="refuse")
def _bytes_after(path: Path, random: np.random.Generator) -> None:
    path.write_bytes(path.read_bytes() + random.bytes(random.integers(1, 500)))
