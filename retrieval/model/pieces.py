"""Images embedded on processors piece by piece, each piece by one thread.

The order of the sums in a convolution depends on how many threads share it. A piece is always
computed by one, so embeddings are the same to the last bit however many threads work. They take the
next piece as they become free, so where another program keeps a processor busy the others do more.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch

CPU_PIECE = 8  # images per forward pass on a CPU: they stay in the caches

Embed = Callable[[torch.Tensor], torch.Tensor]


class Pieces:
    """Embeds images piece by piece, in threads or, if there is one thread only, at once."""

    def __init__(self, embed: Embed, count: int) -> None:
        self._embed, self._count = embed, count
        self._started = deque[Future[torch.Tensor]]()

    def start(self, images: torch.Tensor, size: int = CPU_PIECE) -> Callable[[], np.ndarray]:
        """Begin to embed (n, 3, h, w) images; return a function that waits for the embeddings.

        Batches are waited for in their order.
        """
        pieces = images.split(size)
        if self._count == 1:
            done = torch.cat([self._embed(piece) for piece in pieces]).numpy()
            return lambda: done
        pool = _lone_threads(os.getpid(), self._count)
        self._started.extend(pool.submit(self._embed, piece) for piece in pieces)

        def wait() -> np.ndarray:
            return torch.cat([self._started.popleft().result() for _ in pieces]).numpy()

        return wait

    def batches_ahead(self, batch_size: int) -> int:
        """Return how many batches to begin before the first is waited for.

        Threads then have pieces of the next ones while the last piece of a batch is computed.
        """
        return -(-self._count * CPU_PIECE // batch_size)

    def cancel(self) -> None:
        """Forget what is not computed yet."""
        for future in self._started:
            future.cancel()


@contextmanager
def in_pieces(embed: Embed) -> Iterator[Pieces]:
    """Yield what embeds images piece by piece, on as many threads as torch has.

    Args:
        embed: (n, 3, h, w) images to (n, dim) embeddings. Called in several threads at once, and
            in inference mode.
    """
    pieces = Pieces(torch.inference_mode()(embed), torch.get_num_threads())
    try:
        yield pieces
    finally:
        pieces.cancel()


@lru_cache(maxsize=1)
def _lone_threads(process: int, count: int) -> ThreadPoolExecutor:
    """Return threads that each compute alone, and stay: those of a process are not of its fork."""
    are_there = threading.Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # a new thread takes the number of the process here, once
        torch.set_num_threads(1)
        are_there.wait()

    pool = ThreadPoolExecutor(count, "encode", begin)
    before = torch.get_num_threads()
    for _ in range(count):
        pool.submit(str)  # a thread for each, as the others wait
    are_there.wait()
    torch.set_num_threads(before)  # of threads that start from now on; those keep theirs
    return pool
