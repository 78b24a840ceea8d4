"""The input of each training step, on the device before the step begins.

A thread reads images ahead (image_loader.py). On a GPU, a stream of its own augments them while the
step before still runs. Everything random follows from the number of the step and the position of
an image in it, whatever the number of processes.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from retrieval.compute import distributed
from retrieval.compute.devices import to_device
from retrieval.data.image_loader import read_ahead
from retrieval.data.images import Images
from retrieval.training import augment
from retrieval.training.config import AugmentationName
from retrieval.training.samplers import Batch

PIECE = 32  # images augmented together; the last piece of a step may be smaller
AUGMENTATION = 3  # last entry of the seed, as in samplers.py


@dataclass(frozen=True)
class StepInput:
    """One step, and this process's part of its images.

    Attributes:
        n: Images of the step.
        n_filled: Images with the padding.
        part: Which of these are this process's.
        images: (len(part), 3, side, side) uint8, augmented.
        labels: (n,) int64 class numbers of all images of the step.
        tuples: As in ``Batch``.
    """

    n: int
    n_filled: int
    part: range
    images: torch.Tensor
    labels: torch.Tensor
    tuples: torch.Tensor | None


def step_inputs(
    matrix: Images,
    batches: Iterable[Batch],
    augmentation: AugmentationName,
    device: torch.device,
    seed: tuple[int, int],
    first_step: int = 0,
) -> Iterator[StepInput]:
    """Yield the input of each step.

    Args:
        matrix: (n_image, 3, side, side) uint8, may be a memory map.
        batches: One for each step.
        augmentation: Kind of random changes.
        device: Where the tensors go.
        seed: The seed of the run, and the epoch.
        first_step: Number of the first step.
    """
    for_reading, for_steps = itertools.tee(batches)
    loading = read_ahead(matrix, map(_rows_to_read, for_reading), device)
    steps = zip(itertools.count(first_step), for_steps, loading)
    inputs = (
        _prepare(batch, loaded.images, augmentation, [*seed, step]) for step, batch, loaded in steps
    )
    return inputs if device.type == "cpu" else _on_its_own_stream(inputs, device)


def _on_its_own_stream(inputs: Iterator[StepInput], device: torch.device) -> Iterator[StepInput]:
    """Prepare inputs on a GPU stream of their own."""
    stream = torch.cuda.Stream(device)
    while True:
        with torch.cuda.stream(stream):
            prepared = next(inputs, None)
        if prepared is None:
            return
        main = torch.cuda.current_stream(device)
        main.wait_stream(stream)
        for tensor in (prepared.images, prepared.labels, prepared.tuples):
            if tensor is not None:
                tensor.record_stream(main)
        yield prepared


def _n_filled(batch: Batch) -> int:
    return max(len(batch.rows), batch.n_filled)


def _pieces(part: range, n: int) -> range:
    """Return the images of all pieces that overlap with ``part``, out of ``n`` images."""
    start = part.start // PIECE * PIECE
    return range(start, min(n, -(-part.stop // PIECE) * PIECE) if len(part) else start)


def _rows_to_read(batch: Batch) -> np.ndarray:
    n = _n_filled(batch)
    pieces = _pieces(distributed.own_part(n), n)
    # Repeats from all over the step: batch norm should not see one class more than others.
    repeats = np.linspace(0, len(batch.rows) - 1, n - len(batch.rows)).round().astype(np.int64)
    return np.concatenate([batch.rows, batch.rows[repeats]])[pieces.start : pieces.stop]


def _prepare(
    batch: Batch, images: torch.Tensor, augmentation: AugmentationName, seed: list[int]
) -> StepInput:
    n_filled = _n_filled(batch)
    part = distributed.own_part(n_filled)
    first = _pieces(part, n_filled).start
    changed = []
    for number, piece in enumerate(images.split(PIECE), first // PIECE):
        seed_torch([*seed, AUGMENTATION, number])
        changed.append(augment.apply(augmentation, piece))
    augmented = torch.cat(changed) if changed else images
    device, tuples = images.device, batch.tuples
    return StepInput(
        n=len(batch.rows),
        n_filled=n_filled,
        part=part,
        images=augmented[part.start - first : part.stop - first],
        labels=to_device(torch.from_numpy(batch.labels), device),
        tuples=None if tuples is None else to_device(torch.from_numpy(tuples), device),
    )


def seed_torch(entries: list[int]) -> None:
    """Seed torch from several numbers."""
    key = np.random.SeedSequence(entries).generate_state(1, np.uint64)
    torch.manual_seed(int(key[0]))
