"""One process, or several that torchrun started: who am I, and what have the others got.

    torchrun --nproc_per_node=2 -m process_data.mips --dpath=~/ir/

Without torchrun there is one process, and everything here does nothing.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from retrieval.data import files
from retrieval.data.formats import InputError


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes of torchrun, if there are any, until the block ends.

    Arrays travel over gloo, tensors on a GPU over nccl. An exception leaves the block without
    waiting for the others: the process ends with it, and torchrun stops the rest.

    Args:
        device: What ``devices.choose`` returned.

    Yields:
        The device of this process: of several GPUs its own, where ``device`` is any of them.
    """
    if "RANK" not in os.environ or dist.is_initialized():
        yield device
        return
    if device.type == "cuda":
        if device.index is None:
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_size() -> int:
    """Return the number of processes on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Return whether this process is the one that prints and writes."""
    return rank() == 0


def own_part(n: int, multiple: int = 1) -> range:
    """Return this process's part of ``range(n)``: contiguous, in the order of the ranks.

    Args:
        n: How many rows all processes share.
        multiple: Parts begin at multiples of it; some are empty where there are too few.

    >>> own_part(10)
    range(0, 10)
    """
    n_block = -(-n // multiple)
    first, last = (n_block * r // size() * multiple for r in (rank(), rank() + 1))
    return range(min(first, n), min(last, n))


def gather(array: np.ndarray) -> list[np.ndarray]:
    """Return the arrays of all processes, in the order of the ranks, to every process.

    They may differ in shape and dtype. All processes must call it.
    """
    if size() == 1:
        return [array]
    arrays: list[np.ndarray] = [array] * size()
    with exchange():
        dist.all_gather_object(arrays, array)
    return arrays


def broadcast(text: str) -> str:
    """Return the text of the first process, to every process. All processes must call it."""
    return str(gather(np.array(text))[0])


def agreed_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of convolutions that all processes have.

    Gradients in different ones do not add up, and rows of one file would differ in precision.

    Raises:
        InputError: They have different ones, chosen for different GPUs.
    """
    names = sorted({str(name) for name in gather(np.array(str(dtype)))})
    if len(names) > 1:
        raise InputError(
            f"the processes would compute in {' and '.join(names)}; choose one --precision for all"
        )
    return dtype


def barrier() -> None:
    """Wait until every process is here."""
    if size() > 1:
        with exchange():
            dist.all_reduce(torch.zeros(1))  # over gloo, whatever else there is


# What gloo says, in a plain RuntimeError, when the other side is gone.
_CONNECTION = re.compile("gloo|connection|peer", re.IGNORECASE)


@contextmanager
def exchange() -> Iterator[None]:
    """Say in one line that another process is gone; every exchange with others is in here.

    Errors of this process, such as memory that does not suffice, are left as they are.
    """
    try:
        yield
    except RuntimeError as error:
        is_own = isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)
        if is_own or not (isinstance(error, dist.DistError) or _CONNECTION.search(str(error))):
            raise
        raise InputError(
            f"process {rank()} of {size()} stops: another one ended before its work was done; "
            "see its message, and run the command again"
        ) from error


@contextmanager
def row_writer(path: Path, shape: tuple[int, ...], dtype: str) -> Iterator[files.RowWriter]:
    """Yield a writer for one .npy file on a disk that all processes share, each for its own rows.

    The file appears when the blocks of all processes end well, before any of them goes on.
    """
    if is_main():
        with files.whole(path) as part:
            with part.open("wb") as file:
                writer = files.RowWriter(file, shape, dtype)
                broadcast(str(part))
                yield writer
            barrier()  # all have written; an error of one of them leaves no file
        barrier()
        return
    with Path(broadcast("")).open("rb+") as file:
        yield files.RowWriter(file, shape, dtype, is_new=False)
        os.fsync(file.fileno())
    barrier()
    barrier()
