"""Images embedded on processors piece by piece, each piece by one thread.

The order of the sums in a convolution depends on how many threads share it. A piece is always
computed by one, so embeddings are the same to the last bit however many threads work. They take the
next piece as they become free, so where another program keeps a processor busy the others do more.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch

CPU_PIECE = 8  # images per forward pass on a CPU: they stay in the caches

Embed = Callable[[torch.Tensor], torch.Tensor]


class Pieces:
    """Embeds images piece by piece, in threads or, if there is one thread only, at once."""

    def __init__(self, embed: Embed, pool: ThreadPoolExecutor | None, count: int) -> None:
        self._embed, self._pool, self._count = embed, pool, count

    def start(self, images: torch.Tensor, size: int = CPU_PIECE) -> Callable[[], np.ndarray]:
        """Begin to embed (n, 3, h, w) images; return what waits for the (n, dim) embeddings."""
        pieces = images.split(size)
        if self._pool is None:
            done = torch.cat([self._embed(piece) for piece in pieces]).numpy()
            return lambda: done
        pending = [self._pool.submit(self._embed, piece) for piece in pieces]
        return lambda: torch.cat([future.result() for future in pending]).numpy()

    def batches_ahead(self, batch_size: int) -> int:
        """Return how many batches to begin before the first is waited for.

        Threads then have pieces of the next ones while the last piece of a batch is computed.
        """
        return -(-self._count * CPU_PIECE // batch_size)


@contextmanager
def in_pieces(embed: Embed) -> Iterator[Pieces]:
    """Yield what embeds images piece by piece, on as many threads as torch has.

    Args:
        embed: (n, 3, h, w) images to (n, dim) embeddings. Called in several threads at once, and
            in inference mode.
    """

    @torch.inference_mode()
    def inferred(images: torch.Tensor) -> torch.Tensor:
        return embed(images)

    count = torch.get_num_threads()
    if count == 1:
        yield Pieces(inferred, None, 1)
        return
    are_there = threading.Barrier(count + 1)
    with ThreadPoolExecutor(count, "encode", _compute_alone) as pool:
        for _ in range(count):
            pool.submit(are_there.wait)
        are_there.wait()
        torch.set_num_threads(count)  # of threads that start from now on; those keep theirs
        try:
            yield Pieces(inferred, pool, count)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _compute_alone() -> None:
    """Let the calling thread share its work with no other."""
    torch.get_num_threads()  # a new thread takes the number of the process here, once
    torch.set_num_threads(1)
