"""The file format of models and indexes: a header in JSON, then arrays to map into memory.

    offset  bytes  what
    0       8      b"LOPQidx" and a zero byte
    8       4      uint32 version of the format: 1
    12      4      uint32 length of the header
    16      4      uint32 CRC-32 of the header
    20      ...    the header: UTF-8 JSON
    ...            each array, at a multiple of 64 bytes from the start

Numbers are little-endian. The header is an object with "kind" ("model" or "searcher"),
"model" (the options and sizes of the model) and "arrays": for each name its "dtype" (numpy's,
such as "<f4"), "shape", "offset" and "crc32". Arrays are in C order. Names: ``C0``, ``R0``,
``mu0``, ``subs0`` of the first split, the same with 1 of the second; a rotation that all
cells share is stored once, with shape (1, dim, dim); ``pca_mean`` and ``pca_components``
after a PCA; and of a searcher ``cells``, ``offsets``, ``codes``, ``ids`` as in `lopq.lists`.
"""

import json
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lopq.atomic import whole_file
from lopq.errors import LOPQError
from lopq.pca import PCA
from lopq.split import unpacked_split

if TYPE_CHECKING:
    from lopq.model import LOPQModel

MAGIC = b"LOPQidx\0"
VERSION = 1
ALIGNMENT = 64
PREFIX = struct.Struct("<8sIII")
LISTS = ("cells", "offsets", "codes", "ids")
LARGE = ("codes", "ids")  # grow with the database: the rest is compared with its CRC at each load
OPTIONS = ("V", "M", "subquantizer_clusters", "rotation", "bits", "pca_dim", "renorm", "seed")
DTYPES = ("<f4", "<i8", "|u1")


def write(
    path: str | Path, kind: str, model: dict[str, Any], arrays: dict[str, np.ndarray]
) -> None:
    """Write arrays and their description to ``path``, whole or not at all."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    entries = {
        name: {
            "dtype": array.dtype.newbyteorder("<").str,
            "shape": list(array.shape),
            "offset": 0,
            "crc32": zlib.crc32(as_bytes(array)),
        }
        for name, array in contiguous.items()
    }
    header = {"kind": kind, "model": model, "arrays": entries}
    _place(header, contiguous)
    text = json.dumps(header).encode()
    try:
        with whole_file(Path(path)) as file:
            file.write(PREFIX.pack(MAGIC, VERSION, len(text), zlib.crc32(text)) + text)
            for name, array in contiguous.items():
                file.write(b"\0" * (entries[name]["offset"] - file.tell()))
                file.write(as_bytes(array))
    except OSError as error:
        raise LOPQError(f"cannot write {path}: {error.strerror}") from error


def as_bytes(array: np.ndarray) -> memoryview:
    """Return the bytes of a contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8).data


def _place(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Give each array its offset. Offsets lengthen the header, so room is left for them."""
    end = PREFIX.size + len(json.dumps(header)) + 20 * len(arrays)
    for name, array in arrays.items():
        start = -(-end // ALIGNMENT) * ALIGNMENT
        header["arrays"][name]["offset"] = start
        end = start + array.nbytes


def read(
    path: str | Path, kind: str, verify: bool = True
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the model's description and the arrays of a file, as read-only memory maps."""
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = _read_header(path, file.read(PREFIX.size), file.read, size)
    except OSError as error:
        raise LOPQError(f"cannot read {path}: {error.strerror}") from error
    if header["kind"] != kind:
        raise LOPQError(f"{path} holds a {header['kind']}, not a {kind}")
    arrays = {
        name: _map_array(path, name, entry, size, verify or name not in LARGE)
        for name, entry in header["arrays"].items()
    }
    return header["model"], arrays


def _read_header(path: Path, prefix: bytes, read_bytes: Any, size: int) -> dict[str, Any]:
    if len(prefix) < PREFIX.size or not prefix.startswith(MAGIC):
        raise LOPQError(f"{path} is not a file of this library")
    _, version, length, checksum = PREFIX.unpack(prefix)
    if version != VERSION:
        raise LOPQError(f"{path} has format version {version}; this library reads {VERSION}")
    text = read_bytes(min(length, size))
    if len(text) < length or zlib.crc32(text) != checksum:
        raise LOPQError(f"{path} is damaged: its header is cut off or changed; save it again")
    return json.loads(text)


def _map_array(path: Path, name: str, entry: dict[str, Any], size: int, verify: bool) -> np.ndarray:
    dtype, shape, offset = entry["dtype"], tuple(entry["shape"]), entry["offset"]
    if dtype not in DTYPES:
        raise LOPQError(f"{path} holds an array of unknown type {dtype}")
    if offset + math.prod(shape) * np.dtype(dtype).itemsize > size:
        raise LOPQError(f"{path} is damaged: it ends before the end of its {name}")
    if 0 in shape:
        return np.zeros(shape, dtype)
    array = np.memmap(path, dtype, "r", offset, shape)
    if verify and zlib.crc32(as_bytes(array)) != entry["crc32"]:
        raise LOPQError(f"{path} is damaged: its {name} changed since it was saved")
    return array


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Turn what is wrong with the content of a file into an error that names it."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise LOPQError(f"{path} is damaged: {error}") from error


def describe_model(model: "LOPQModel") -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what `restore_model` needs: options and sizes, and the arrays."""
    arrays = {}
    for i, split in enumerate(model.fitted_splits()):
        C, R, mu, subs, _ = split.packed()
        arrays.update({f"C{i}": C, f"mu{i}": mu, f"subs{i}": subs, f"R{i}": R})
    if model.pca is not None:
        arrays["pca_mean"], arrays["pca_components"] = model.pca.mean, model.pca.components
    options = {name: getattr(model, name) for name in OPTIONS}
    errors = [s.errors for s in model.splits]
    return {**options, "dim_in": model.dim_in, "training_errors": errors}, arrays


def restore_model(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> "LOPQModel":
    """Return the model that `describe_model` described; its arrays are read into memory."""
    from lopq.model import LOPQModel  # the model's `load` calls this module

    errors = header["training_errors"]
    model = LOPQModel(
        **{name: header[name] for name in OPTIONS},
        split="single" if len(errors) == 1 else "multi",
    )
    model.dim_in = header["dim_in"]
    if "pca_mean" in arrays:
        mean, components = np.array(arrays["pca_mean"]), np.array(arrays["pca_components"])
        model.pca = PCA(mean, components, model.renorm)
    splits = []
    for i, split_errors in enumerate(errors):
        C, R, mu, subs = (np.array(arrays[f"{name}{i}"]) for name in ("C", "R", "mu", "subs"))
        splits.append(unpacked_split(C, R, mu, subs, split_errors))
    model.adopt(tuple(splits))
    return model
