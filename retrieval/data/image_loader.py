"""Prefetching of images to the device, and asynchronous copies of results to the host.

A thread reads ahead while the network computes. It reads the file into a buffer: a memory map would
keep all touched pages resident, and hold the GIL while it waits for the disk. For a GPU, the buffer
is pinned and copied once, as uint8, on a separate stream, so neither the program nor the GPU waits
for the copy.
"""

import mmap
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from weakref import finalize

import numpy as np
import torch

from retrieval.data.images import ConcatenatedArrays, Images

AHEAD = 2  # batches to prefetch


@dataclass(frozen=True)
class Loaded:
    """A block of images of a matrix.

    Attributes:
        host: (n, 3, side, side) uint8, as read.
        images: The same on the device; on the CPU, it shares memory with ``host``.
    """

    host: np.ndarray
    images: torch.Tensor


class RowReader:
    """Reads rows of an array; rows of a memory map are read from its file instead."""

    def __init__(self, array: Images) -> None:
        self.array = array
        parts = array.parts if isinstance(array, ConcatenatedArrays) else []
        self._readers = [RowReader(part) for part in parts]
        self._descriptor: int | None = None
        # A view of a map does not know its offset in the file.
        if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.size:
            descriptor = os.open(Path(str(array.filename)), os.O_RDONLY)
            finalize(self, os.close, descriptor)
            if array.flags.c_contiguous and os.fstat(descriptor).st_size == len(array.base):
                self._descriptor = descriptor

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy ``array[rows]`` to ``out``; consecutive rows are read at once."""
        if isinstance(self.array, ConcatenatedArrays):
            for number, places, own in self.array.places(rows):
                of_part = np.empty((len(own), *out.shape[1:]), out.dtype)
                self._readers[number].read(own, of_part)
                out[places] = of_part
            return
        if self._descriptor is None or not len(rows):
            out[:] = self.array[rows]
            return
        starts = np.flatnonzero(np.diff(rows, prepend=rows[:1] - 2) != 1)
        for first, last in zip(starts, [*starts[1:], len(rows)], strict=True):
            self._fill(int(rows[first]), memoryview(out[first:last].data).cast("B"))

    def _fill(self, row: int, buffer: memoryview) -> None:
        assert self._descriptor is not None and isinstance(self.array, np.memmap)
        offset = self.array.offset + row * self.array.strides[0]
        while buffer:
            count = os.preadv(self._descriptor, [buffer], offset)
            if not count:
                raise OSError(f"{self.array.filename} ends early")
            buffer, offset = buffer[count:], offset + count


class _Loader:
    """Reads images and starts their copy to the device; called in the prefetching thread."""

    def __init__(self, matrix: Images, device: torch.device) -> None:
        self._reader = RowReader(matrix)
        self._shape = matrix.shape[1:]
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, rows: np.ndarray) -> tuple[Loaded, torch.cuda.Event | None]:
        shape = (len(rows), *self._shape)
        if self._stream is None:
            buffer = torch.empty(shape, dtype=torch.uint8)
            self._reader.read(rows, buffer.numpy())
            return Loaded(buffer.numpy(), buffer), None
        # Freed buffers return to the pool of pinned memory when their copy is done.
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            buffer = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
            self._reader.read(rows, buffer.numpy())
            images = buffer.to(self._device, non_blocking=True)
            return Loaded(buffer.numpy(), images), self._stream.record_event()


def read_ahead(
    matrix: Images, blocks: Iterable[np.ndarray], device: torch.device, ahead: int = AHEAD
) -> Iterator[Loaded]:
    """Yield the images of each block of rows, in order, read ahead.

    Args:
        matrix: (n_image, 3, side, side) uint8; may be a memory map, or several.
        blocks: (n,) int64 rows of the matrix each, none negative.
        device: Device to copy the images to.
        ahead: Blocks to prefetch.
    """
    load = _Loader(matrix, device)
    left = iter(blocks)
    with ThreadPoolExecutor(1, "read_ahead") as thread:
        pending = deque(thread.submit(load, rows) for rows in islice(left, ahead))
        try:
            while pending:
                loaded, copied = pending.popleft().result()
                pending.extend(thread.submit(load, rows) for rows in islice(left, 1))
                if copied is not None:
                    stream = torch.cuda.current_stream(device)
                    stream.wait_event(copied)
                    loaded.images.record_stream(stream)
                yield loaded
        finally:
            for future in pending:
                future.cancel()


class AsyncCopy:
    """A copy of a tensor to the host that runs in the background; on the CPU, the tensor itself."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._copied: torch.cuda.Event | None = None
        self._host = tensor
        if tensor.is_cuda:
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._copied = torch.cuda.current_stream(tensor.device).record_event()

    def wait(self) -> np.ndarray:
        """Return the array once it is copied, without waiting for later work on the device."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._host.numpy()
