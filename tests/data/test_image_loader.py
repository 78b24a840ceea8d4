"""Rows that are read ahead are the rows of the array, whatever it is and wherever they go."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval.data.image_loader import AsyncCopy, RowReader, read_ahead
from tests.conftest import DEVICES


def matrix_of(path: Path, n: int = 23) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (n, 3, 5, 5), dtype=np.uint8)
    np.save(path, images)
    return images


@pytest.mark.parametrize("kind", ["map", "array", "part of a map", "other order"])
def test_rows_are_those_of_the_array(tmp_path: Path, kind: str) -> None:
    images = matrix_of(tmp_path / "m.npy")
    array: np.ndarray = np.load(tmp_path / "m.npy", mmap_mode="r")
    if kind == "array":
        array = images
    if kind == "part of a map":
        array = array[2:]
    if kind == "other order":
        np.save(tmp_path / "m.npy", np.asfortranarray(images))
        array = np.load(tmp_path / "m.npy", mmap_mode="r")
    for rows in ([], [0], [3, 4, 5], [22, 0, 1, 2, 2, 9], range(23)):
        there = np.array([row for row in rows if row < len(array)], np.int64)
        found = np.zeros((len(there), 3, 5, 5), np.uint8)
        RowReader(array).read(there, found)
        np.testing.assert_array_equal(found, array[there], str(rows))


def test_a_map_is_read_without_keeping_its_pages(tmp_path: Path) -> None:
    """Read 64 MB in small blocks; what the process holds of the file must stay small."""
    path = tmp_path / "m.npy"
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (1024, 1, 256, 256)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + (64 << 20))
    matrix = np.load(path, mmap_mode="r")
    blocks = np.arange(1024).reshape(64, 16)
    count = sum(len(loaded.host) for loaded in read_ahead(matrix, blocks, torch.device("cpu")))
    assert count == 1024
    name, is_ours, resident = str(path), False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            is_ours = line.endswith(name)
        elif is_ours and line.startswith("Rss:"):
            resident += int(line.split()[1])
    assert resident < 1024  # kB


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("ahead", [1, 2, 9])
def test_blocks_come_in_order(tmp_path: Path, device: str, ahead: int) -> None:
    images = matrix_of(tmp_path / "m.npy")
    matrix = np.load(tmp_path / "m.npy", mmap_mode="r")
    blocks = [np.array(rows) for rows in ([4, 5], [0], [20, 21, 22], [7])]
    seen = list(read_ahead(matrix, blocks, torch.device(device), ahead))
    assert len(seen) == len(blocks)
    for loaded, rows in zip(seen, blocks, strict=True):
        np.testing.assert_array_equal(loaded.host, images[rows])
        assert loaded.images.device.type == device
        np.testing.assert_array_equal(loaded.images.cpu().numpy(), images[rows])


def test_only_so_many_blocks_are_read_ahead() -> None:
    asked: list[int] = []

    def blocks() -> Iterator[np.ndarray]:
        for number in range(10):
            asked.append(number)
            yield np.array([number])

    reading = read_ahead(np.zeros((10, 3, 2, 2), np.uint8), blocks(), torch.device("cpu"), 2)
    next(reading)
    assert len(asked) == 3
    reading.close()
    assert not [thread for thread in threading.enumerate() if "read_ahead" in thread.name]


def test_an_error_of_the_thread_reaches_the_caller(tmp_path: Path) -> None:
    matrix_of(tmp_path / "m.npy")
    matrix = np.load(tmp_path / "m.npy", mmap_mode="r")
    reader = RowReader(matrix)
    with (tmp_path / "m.npy").open("rb+") as file:
        file.truncate(200)
    with pytest.raises(OSError, match=r"m.npy ends early"):
        reader.read(np.arange(20), np.zeros((20, 3, 5, 5), np.uint8))
    blocks = iter([np.array([0]), np.array([4])])
    with pytest.raises(IndexError, match="4 is out of bounds"):
        list(read_ahead(np.zeros((4, 3, 2, 2), np.uint8), blocks, torch.device("cpu")))


@pytest.mark.parametrize("device", DEVICES)
def test_results_return(device: str) -> None:
    tensor = torch.arange(6.0, device=device).reshape(2, 3)
    returning = AsyncCopy(tensor)
    np.testing.assert_array_equal(returning.wait(), np.arange(6.0).reshape(2, 3))
