"""Damages of checkpoints, zip files of a pickle and of tensors, and of the LOPQ index."""

import json
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lopq.storage import MAGIC, PREFIX, VERSION
from tests.faults.damage import Touch, damages
from tests.faults.damage_texts import VALUES

SMALL = [value for value in VALUES if value != 10**5000 and value != "\ud800"]


@damages("checkpoint", "index", expect="refuse")
def _bits(path: Path, random: np.random.Generator) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(random.integers(1, 4)):
        data[random.integers(0, len(data))] ^= 1 << int(random.integers(0, 8))
    path.write_bytes(data)


def _rewrite(path: Path, change: Any, method: int = zipfile.ZIP_STORED) -> None:
    """Write the archive again, with other content and the right checksums."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def _pickle_name(parts: dict[str, bytes]) -> str:
    return next(name for name in parts if name.endswith("data.pkl"))


@damages("checkpoint", expect="any")
def _number_in_pickle(path: Path, random: np.random.Generator) -> None:
    """Claim another size, offset or stride: numbers of the pickle, under right checksums."""

    def change(parts: dict[str, bytes]) -> None:
        name = _pickle_name(parts)
        data = bytearray(parts[name])
        # BININT, BININT2 and BININT1, each with the bytes of its number.
        places = [(i, {74: 4, 77: 2, 75: 1}[op]) for i, op in enumerate(data) if op in (74, 77, 75)]
        for _ in range(random.integers(1, 4)):
            first, width = places[random.integers(0, len(places))]
            data[first + 1 : first + 1 + width] = random.bytes(width)
        parts[name] = bytes(data)

    _rewrite(path, change)


@damages("checkpoint", expect="refuse")
def _code_in_pickle(path: Path, random: np.random.Generator) -> None:
    def change(parts: dict[str, bytes]) -> None:
        parts[_pickle_name(parts)] = pickle.dumps({"state_dict": Touch()}, protocol=2)

    _rewrite(path, change)


@damages("checkpoint", expect="refuse")
def _deflated(path: Path, random: np.random.Generator) -> None:
    _rewrite(path, lambda parts: None, zipfile.ZIP_DEFLATED)


@damages("checkpoint", expect="refuse")
def _bomb(path: Path, random: np.random.Generator) -> None:
    """A few hundred kilobytes that unpack to 3 GB."""
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
    block, size = bytes(1 << 20), 3 << 30
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w", force_zip64=True) as part,
    ):
        for _ in range(size >> 20 if random.random() < 0.1 else 64):
            part.write(block)


@damages("checkpoint", expect="refuse")
def _missing_part(path: Path, random: np.random.Generator) -> None:
    def change(parts: dict[str, bytes]) -> None:
        del parts[list(parts)[random.integers(0, len(parts))]]

    _rewrite(path, change)


@damages("checkpoint", expect="any")
def _short_part(path: Path, random: np.random.Generator) -> None:
    def change(parts: dict[str, bytes]) -> None:
        name = list(parts)[random.integers(0, len(parts))]
        parts[name] = parts[name][: random.integers(0, len(parts[name]) + 1)]

    _rewrite(path, change)


def _members(random: np.random.Generator) -> Any:
    huge = torch.zeros(1).expand(10**5, 10**5)
    others = [
        huge,
        torch.zeros(0),
        torch.zeros(3, 3),
        torch.tensor(float("nan")),
        torch.zeros(2**20),
    ]
    values = [*others, *SMALL]
    return values[random.integers(0, len(values))]


@damages("checkpoint", expect="any")
def _member(path: Path, random: np.random.Generator) -> None:
    """Replace one member, at any depth, by one of another type, size or name."""
    content = torch.load(path, weights_only=True)
    node = content
    while True:
        key = list(node)[random.integers(0, len(node))] if isinstance(node, dict) else 0
        child = node[key]
        if not isinstance(child, dict) or not child or random.random() < 0.4:
            break
        node = child
    if random.random() < 0.15:
        del node[key]
    else:
        node[key] = _members(random)
    with path.open("wb") as file:
        torch.save(content, file)


@damages("checkpoint", expect="refuse")
def _other_content(path: Path, random: np.random.Generator) -> None:
    with path.open("wb") as file:
        torch.save(_members(random), file)


@damages("checkpoint", expect="refuse")
def _tensor_shape(path: Path, random: np.random.Generator) -> None:
    """Give one weight another shape, or the size of a large disk."""
    content = torch.load(path, weights_only=True)
    weights = content["state_dict"]
    name = list(weights)[random.integers(0, len(weights))]
    shapes = [torch.zeros(1).expand(10**10), torch.zeros(0), weights[name][None].clone()]
    weights[name] = shapes[random.integers(0, 3)]
    with path.open("wb") as file:
        torch.save(content, file)


def _index_parts(path: Path) -> tuple[dict[str, Any], bytearray]:
    """Return the header of an index, and the whole file."""
    data = path.read_bytes()
    length = PREFIX.unpack(data[: PREFIX.size])[2]
    return json.loads(data[PREFIX.size : PREFIX.size + length]), bytearray(data)


def _write_header(path: Path, content: object, data: bytearray) -> None:
    """Write a header of the same length if it can have it, under a right checksum."""
    length = PREFIX.unpack(data[: PREFIX.size])[2]
    text = json.dumps(content).encode()
    text += b" " * (length - len(text))
    body = bytes(data[PREFIX.size + max(length, len(text)) :])
    path.write_bytes(PREFIX.pack(MAGIC, VERSION, len(text), zlib.crc32(text)) + text + body)


@damages("index", expect="any")
def _header_with_checksum(path: Path, random: np.random.Generator) -> None:
    """Change the header of the index, under a right checksum."""
    content, data = _index_parts(path)
    fields = list(_leaves(content))
    *keys, last = fields[random.integers(0, len(fields))]
    node = content
    for key in keys:
        node = node[key]
    values = [*SMALL, 2**40, 2**62, -5, "<f8", "|O", [10**9, 10**9], [-1], [2**62, 2**62], [0, 4]]
    if random.random() < 0.15:
        del node[last]
    else:
        node[last] = values[random.integers(0, len(values))]
    _write_header(path, content, data)


@damages("index", expect="any")
def _header_of_other_form(path: Path, random: np.random.Generator) -> None:
    _, data = _index_parts(path)
    _write_header(path, SMALL[random.integers(0, len(SMALL))], data)


@damages("index", expect="any")
def _array_with_checksum(path: Path, random: np.random.Generator) -> None:
    """Change values of an array, under a right checksum."""
    content, data = _index_parts(path)
    entry = list(content["arrays"].values())[random.integers(0, len(content["arrays"]))]
    size = int(np.prod(entry["shape"])) * np.dtype(entry["dtype"]).itemsize
    first = entry["offset"]
    for _ in range(random.integers(1, 20)):
        if size:
            data[first + int(random.integers(0, size))] = random.integers(0, 256)
    entry["crc32"] = zlib.crc32(data[first : first + size])
    _write_header(path, content, data)


def _leaves(node: Any, keys: tuple[Any, ...] = ()) -> Any:
    for key, child in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*keys, key)
        if isinstance(child, dict | list):
            yield from _leaves(child, (*keys, key))
