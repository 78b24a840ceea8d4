"""The processes started by torchrun: rank, size and communication.

    torchrun --nproc_per_node=2 -m process_data.mips --dpath=~/ir/

Without torchrun there is one process: then these functions exchange nothing and do not import
torch.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from retrieval.data import files
from retrieval.data.formats import InputError
from retrieval.data.shards import part_of

if TYPE_CHECKING:
    import torch

Device = TypeVar("Device", str, "torch.device")


@contextmanager
def process_group(device: Device) -> Iterator[Device]:
    """Join the other processes of torchrun, if there are any, until the block ends.

    Arrays travel over gloo, tensors on a GPU over nccl. An exception leaves the block without
    waiting for the others: the process ends with it, and torchrun stops the rest.

    Args:
        device: What ``devices.resolve`` or ``devices.choose`` returned.

    Yields:
        The device of this process. ``cuda`` becomes ``cuda:n``, where n is the number of this
        process on this machine.
    """
    if "RANK" not in os.environ or _is_joined():
        yield device
        return
    import torch
    import torch.distributed as dist

    is_cuda = str(device).startswith("cuda")
    if is_cuda:
        if str(device) == "cuda":
            device = type(device)(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if is_cuda else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def size() -> int:
    """Return the number of processes."""
    return int(os.environ["WORLD_SIZE"]) if _is_joined() else 1


def local_size() -> int:
    """Return the number of processes on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if _is_joined() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ["RANK"]) if _is_joined() else 0


def is_main() -> bool:
    """Return whether this process is the one that prints and writes."""
    return rank() == 0


def _is_joined() -> bool:
    """Return whether this process is in the group of torchrun's processes."""
    if "RANK" not in os.environ:
        return False
    import torch.distributed as dist

    return dist.is_initialized()


def own_part(n: int, multiple: int = 1) -> range:
    """Return this process's part of ``range(n)``: contiguous, in the order of the ranks.

    Args:
        n: Rows that all processes share.
        multiple: Parts begin at multiples of it; some are empty if there are too few.

    >>> own_part(10)
    range(0, 10)
    """
    return part_of(n, rank(), size(), multiple)


def gather(array: np.ndarray) -> list[np.ndarray]:
    """Return the arrays of all processes, in the order of the ranks, to every process.

    They may differ in shape and dtype. All processes must call it.
    """
    if size() == 1:
        return [array]
    import torch.distributed as dist

    arrays: list[np.ndarray] = [array] * size()
    with exchange():
        dist.all_gather_object(arrays, array)
    return arrays


def broadcast(text: str) -> str:
    """Return the text of the first process, to every process. All processes must call it."""
    return str(gather(np.array(text))[0])


def agreed_dtype(dtype: "torch.dtype") -> "torch.dtype":
    """Return the dtype of convolutions, which all processes must share.

    Gradients of different dtypes do not add up, and rows of one file would differ in precision.

    Raises:
        InputError: The processes chose different ones, on different GPUs.
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
        import torch
        import torch.distributed as dist

        with exchange():
            dist.all_reduce(torch.zeros(1))  # over gloo, whatever else there is


@contextmanager
def exchange() -> Iterator[None]:
    """Report in one line that an exchange failed; all exchanges between processes run inside it.

    Raises:
        InputError: torch reports an error of the exchange. Any other error keeps its traceback.
    """
    try:
        yield
    except RuntimeError as error:
        import torch.distributed as dist

        if not isinstance(error, dist.DistError):
            raise
        raise InputError(
            f"process {rank()} of {size()} stops: another one ended before its work was done; "
            "see its message, and run the command again"
        ) from error


@contextmanager
def row_writer(path: Path, shape: tuple[int, ...], dtype: str) -> Iterator[files.RowWriter]:
    """Yield a writer for one .npy file on a shared disk; each process writes its own rows.

    The file appears when the blocks of all processes have succeeded, before any process continues.
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
