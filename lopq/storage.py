"""The file format of models and indexes: a JSON header, then arrays for memory mapping.

    offset  bytes  content
    0       8      b"LOPQidx" and a zero byte
    8       4      uint32 format version: 1
    12      4      uint32 length of the header
    16      4      uint32 CRC-32 of the header
    20      ...    the header: UTF-8 JSON
    ...            each array, at a multiple of 64 bytes from the start of the file

Numbers are little-endian. The header is an object with "kind" ("model", "searcher" or "part"),
"model" (the options and sizes of the model) and "arrays", which maps each name to its "dtype" (in
numpy's notation, such as "<f4"), "shape", "offset" and "crc32". Arrays are in C order. ``C0``,
``R0``, ``mu0`` and ``subs0`` belong to the first split, the same names with 1 to the second. ``R0``
has a rotation per cell or one for all, unless ``rotation_of0`` has the number of each cell's. With
many cells, ``tops0`` and ``starts0`` are their groups (`TwoLevelQuantizer`). ``pca_mean`` and
``pca_components`` exist if the model has a PCA. A searcher adds ``cells``, ``offsets``, ``codes``
and ``ids``, as in `InvertedLists`, and ``float16`` or ``int8`` if it keeps vectors
(`lopq.index.refine`). A part of `lopq.index.merge` has these alone; its "model" is what it was
made from. "training_errors" in the model has one list per split, empty since rotations are no
longer learned.
"""

import errno
import json
import math
import os
import secrets
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from lopq.errors import LOPQError

MAGIC = b"LOPQidx\0"
VERSION = 1
ALIGNMENT = 64
PREFIX = struct.Struct("<8sIII")
LARGE = (
    "codes",
    "ids",
    "float16",
    "int8",
)  # grow with the database; loading can skip their checksums
DTYPES = ("<f4", "<i8", "|u1")


class Blocks(NamedTuple):
    """An array that is written without being in memory.

    Attributes:
        dtype: In numpy's notation, one of ``DTYPES``.
        shape: Shape of the whole array.
        iterate: Returns an iterator over its rows in blocks; called twice.
    """

    dtype: str
    shape: tuple[int, ...]
    iterate: Callable[[], Iterator[np.ndarray]]

    @classmethod
    def of(cls, array: "np.ndarray | Blocks") -> "Blocks":
        """Return an array as one block."""
        if isinstance(array, Blocks):
            return array
        contiguous = np.ascontiguousarray(array)
        dtype = contiguous.dtype.newbyteorder("<").str
        return cls(dtype, contiguous.shape, lambda: iter([contiguous]))

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def bytes(self) -> Iterator[memoryview]:
        """Yield its bytes."""
        for block in self.iterate():
            yield as_bytes(np.ascontiguousarray(block))

    def crc32(self) -> int:
        """Return the CRC-32 of its bytes."""
        checksum = 0
        for part in self.bytes():
            checksum = zlib.crc32(part, checksum)
        return checksum


def write(
    path: str | Path,
    kind: str,
    model: dict[str, Any],
    arrays: Mapping[str, np.ndarray | Blocks],
) -> None:
    """Write a file atomically.

    Args:
        path: The file; an existing one is replaced.
        kind: "model", "searcher" or "part".
        model: The model's options and sizes, as JSON values; the origin of a part.
        arrays: Arrays by name, in the order of the file.

    Raises:
        LOPQError: The file cannot be written.
    """
    in_blocks = {name: Blocks.of(array) for name, array in arrays.items()}
    entries: dict[str, dict[str, Any]] = {
        name: {
            "dtype": array.dtype,
            "shape": list(array.shape),
            "offset": 0,
            "crc32": array.crc32(),
        }
        for name, array in in_blocks.items()
    }
    header = {"kind": kind, "model": model, "arrays": entries}
    _place(header, in_blocks)
    text = json.dumps(header).encode()
    try:
        with whole_file(Path(path)) as file:
            file.write(PREFIX.pack(MAGIC, VERSION, len(text), zlib.crc32(text)) + text)
            for name, array in in_blocks.items():
                file.write(b"\0" * (entries[name]["offset"] - file.tell()))
                for part in array.bytes():
                    file.write(part)
    except OSError as error:
        raise LOPQError(f"cannot write {path}: {error.strerror}") from error


def as_bytes(array: np.ndarray) -> memoryview:
    """Return the bytes of a contiguous array without a copy."""
    return array.reshape(-1).view(np.uint8).data


def _place(header: dict[str, Any], arrays: dict[str, Blocks]) -> None:
    """Set each array's offset, and leave room because the offsets lengthen the header."""
    end = PREFIX.size + len(json.dumps(header)) + 20 * len(arrays)
    for name, array in arrays.items():
        start = -(-end // ALIGNMENT) * ALIGNMENT
        header["arrays"][name]["offset"] = start
        end = start + array.nbytes


def read(
    path: str | Path, kind: str, verify: bool = True
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a file that `write` wrote.

    Args:
        path: The file.
        kind: "model", "searcher" or "part".
        verify: Compare the checksums of codes, ids and kept vectors too; others always are.

    Returns:
        model: The model's options and sizes.
        arrays: Read-only memory maps by name.

    Raises:
        LOPQError: The file cannot be read, is of another kind or version, or is damaged.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with open(path, "rb", opener=_without_waiting) as file:
            if not path.is_file():
                raise LOPQError(f"{path} is not a regular file")
            header = _read_header(path, file, size)
    except OSError as error:
        raise LOPQError(f"cannot read {path}: {error.strerror}") from error
    with naming(path):
        if header["kind"] != kind:
            raise LOPQError(f"{path} holds a {header['kind']}, not a {kind}")
        arrays = {
            name: _map_array(path, name, entry, size, verify or name not in LARGE)
            for name, entry in header["arrays"].items()
        }
        return dict(header["model"]), arrays


def _read_header(path: Path, file: BinaryIO, size: int) -> dict[str, Any]:
    prefix = file.read(PREFIX.size)
    if len(prefix) < PREFIX.size or not prefix.startswith(MAGIC):
        raise LOPQError(f"{path} is not a file of this library")
    _, version, length, checksum = PREFIX.unpack(prefix)
    if version != VERSION:
        raise LOPQError(f"{path} has format version {version}; this library reads {VERSION}")
    text = file.read(min(length, size))
    if len(text) < length or zlib.crc32(text) != checksum:
        raise LOPQError(f"{path} is damaged: its header is cut off or changed; save it again")
    with naming(path):
        return dict(json.loads(text))


def _map_array(path: Path, name: str, entry: dict[str, Any], size: int, verify: bool) -> np.ndarray:
    dtype, shape, offset = entry["dtype"], tuple(entry["shape"]), entry["offset"]
    if dtype not in DTYPES:
        raise LOPQError(f"{path} holds an array of unknown type {dtype}")
    if not all(type(number) is int and number >= 0 for number in (*shape, offset)):
        raise LOPQError(f"{path} is damaged: its {name} has no proper shape or place")
    if offset + math.prod(shape) * np.dtype(dtype).itemsize > size:
        raise LOPQError(f"{path} is damaged: it ends before the end of its {name}")
    if 0 in shape:
        return np.zeros(shape, dtype)
    array = np.memmap(path, dtype, "r", offset, shape)
    if verify and zlib.crc32(as_bytes(array)) != entry["crc32"]:
        raise LOPQError(f"{path} is damaged: its {name} changed since it was saved")
    return array


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe in its place does not wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Turn errors about the content of a file into a `LOPQError` that names the file."""
    try:
        yield
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        if isinstance(error, LOPQError) and str(path) in str(error):
            raise
        raise LOPQError(f"{path} is damaged: {error}") from error


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file next to ``path`` that replaces it if the block succeeds.

    If ``path`` is a symbolic link, its target is replaced and the link stays.
    """
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:  # "x" creates it with the usual permissions
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # not every system can open a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name survives a power cut
        finally:
            os.close(folder)
