"""The batches of an epoch: which images, in which order.

The order follows from (seed, epoch) alone, and a batch from its number, so that training resumes
at any step without drawing the steps before it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from retrieval.training.config import SamplerName, TrainingConfig
from retrieval.training.dataset import TrainingData

# The last entry of a seed says what is drawn. Never 0: numpy ignores trailing zeros.
ORDER, NEGATIVES = 1, 2
TUPLE_STEP = 16  # batches of tuples are padded to multiples of it, so that few sizes occur


@dataclass(frozen=True)
class Batch:
    """The images of one step.

    Attributes:
        rows: (n,) int64, distinct rows of the image matrix.
        labels: (n,) int64, their class numbers: positions in ``data.classes``.
        tuples: (n_tuple, 2 + neg_count) int64 positions in ``rows``: anchor, positive, negatives;
            None if the loss takes classes.
        count: Number of tuples, or of images if there are none.
        n_filled: Images after padding with repeats, since every new batch size may be compiled
            and tuned again; not padded if it is at most ``len(rows)``.
    """

    rows: np.ndarray
    labels: np.ndarray
    tuples: np.ndarray | None
    count: int
    n_filled: int = 0


@dataclass(frozen=True)
class Steps:
    """The batches of one epoch, each made on demand."""

    count: int
    make: Callable[[int], Batch]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> Batch:
        if not 0 <= step < self.count:
            raise IndexError(f"step {step} of {self.count}")
        return self.make(step)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.make, range(self.count))


class BatchSampler(Protocol):
    """Draws the batches of each epoch."""

    unit: str  # what a batch counts

    def epoch(self, number: int) -> Steps:
        """Return the batches of an epoch, the same at every call."""


class TupleSampler:
    """Draws each tuple of ``train.npy`` once in even epochs, and of ``train2.npy`` in odd ones.

    Tuples of held-out classes are left out; negatives of held-out classes are drawn again.
    """

    unit = "tuple"

    def __init__(self, data: TrainingData, batch_size: int, most: int, seed: int) -> None:
        """Find the tuples that may be drawn.

        Args:
            data: The images and the split, with tuples.
            batch_size: Tuples per step.
            most: Tuples per epoch at most; 0: all.
            seed: Seed of the order.
        """
        self.data, self.batch_size, self.most, self.seed = data, batch_size, most, seed
        if data.tuples is None:
            raise ValueError("the tuple loss needs data with tuples")
        self.tuples = data.tuples
        self.is_known = np.zeros(len(data.labels), bool)
        self.is_known[data.rows] = True
        self.usable = [self._usable(tuples) for tuples in self.tuples]

    def epoch(self, number: int) -> Steps:
        tuples, usable = self.tuples[number % 2], self.usable[number % 2]
        n = len(tuples) if usable is None else len(usable)
        order = np.random.default_rng([self.seed, number, ORDER]).permutation(n)
        order = order[: self.most or n]
        if usable is not None:
            order = usable[order]

        def make(step: int) -> Batch:
            chosen = np.sort(order[step * self.batch_size : (step + 1) * self.batch_size])
            images = self._known(np.array(tuples[chosen]), [self.seed, number, step, NEGATIVES])
            rows, places = np.unique(images, return_inverse=True)
            n_filled = -(-len(rows) // TUPLE_STEP) * TUPLE_STEP
            local = places.reshape(images.shape)
            return Batch(rows, self.data.numbers(rows), local, len(images), n_filled)

        return Steps(-(-len(order) // self.batch_size), make)

    def _usable(self, tuples: np.ndarray) -> np.ndarray | None:
        """Return the tuples whose anchor is not held out; None: all."""
        if not len(self.data.holdout):
            return None
        return np.flatnonzero(self.is_known[np.asarray(tuples[:, 0])])

    def _known(self, images: np.ndarray, seed: list[int]) -> np.ndarray:
        """Replace negatives of held-out classes by images of known ones."""
        rng, labels = np.random.default_rng(seed), self.data.labels
        while len(self.data.holdout):
            is_own = labels[images] == labels[images[:, :1]]
            is_own[:, :2] = False
            bad = ~self.is_known[images] | is_own
            if not bad.any():
                break
            images[bad] = rng.choice(self.data.rows, bad.sum())
        return images


class ClassSampler:
    """Draws every training image once per epoch, in batches whose sizes differ by one at most.

    ``random`` draws in any order; ``pk`` in groups of up to ``images_per_class`` images of a class
    (Hermans et al., In Defense of the Triplet Loss, arXiv:1703.07737). A class's last group may be
    smaller here, and a batch may hold two groups of a class. No batch is larger than
    ``batch_size``: its first and last group may continue in the neighboring batch. A batch without
    two images of one class teaches losses over pairs nothing; it occurs only if hardly any class
    has more than one image.

    With images of other cameras, half of each batch are such images; the images of the smaller
    domain are repeated.
    """

    unit = "image"

    def __init__(
        self,
        data: TrainingData,
        batch_size: int,
        most: int,
        seed: int,
        sampler: SamplerName = "random",
        images_per_class: int = 4,
    ) -> None:
        """Describe the batches.

        Args:
            data: The images and the split.
            batch_size: Images per step at most.
            most: Images per epoch at most; 0: all.
            seed: Seed of the order.
            sampler: ``random`` or ``pk``.
            images_per_class: Size of a group with ``pk``.
        """
        self.data, self.batch_size, self.most, self.seed = data, batch_size, most, seed
        self.group = images_per_class if sampler == "pk" else 1

    def epoch(self, number: int) -> Steps:
        rng = np.random.default_rng([self.seed, number, ORDER])
        order = self._order(rng)[: self.most or None]
        count = -(-len(order) // self.batch_size)
        edges = np.linspace(0, len(order), count + 1).round().astype(int)
        n_filled = -(-len(order) // count)

        def make(step: int) -> Batch:
            rows = np.sort(order[edges[step] : edges[step + 1]])
            return Batch(rows, self.data.numbers(rows), None, len(rows), n_filled)

        return Steps(count, make)

    def _order(self, rng: np.random.Generator) -> np.ndarray:
        """Return the images of an epoch in random order, those of two domains alternating."""

        def ordered(rows: np.ndarray) -> np.ndarray:
            return np.concatenate(class_groups(rows, self.data.labels[rows], self.group, rng))

        if not len(self.data.cameras):
            return ordered(self.data.rows)
        domains = [np.setdiff1d(self.data.rows, self.data.cameras), self.data.cameras]
        n = max(map(len, domains))
        orders = []
        for rows in domains:
            repeats = [ordered(rows) for _ in range(-(-n // len(rows)))]
            order = np.concatenate(repeats)[:n]
            # Whole groups alternate, not single images.
            orders.append(np.split(order, range(self.group, n, self.group)))
        return np.concatenate([part for pair in zip(*orders, strict=True) for part in pair])


def make_sampler(config: TrainingConfig, data: TrainingData) -> BatchSampler:
    """Return the sampler that the loss needs."""
    common = (data, config.batch_size, config.max_tuples, config.seed)
    if config.loss == "tuple":
        return TupleSampler(*common)
    return ClassSampler(*common, config.sampler, config.images_per_class)


def class_groups(
    rows: np.ndarray, labels: np.ndarray, size: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Divide images into groups of at most ``size`` images of one class, in random order.

    Args:
        rows: (n,) int64.
        labels: (n,) int64, the class of each.
        size: Images per group; a class's last group may be smaller.
        rng: Draws the order of images and groups.
    """
    shuffled = rng.permutation(len(rows))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    _, starts, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    place = np.arange(len(rows)) - np.repeat(starts, counts)
    groups = np.split(rows[by_class], np.flatnonzero(place % size == 0)[1:])
    return [groups[i] for i in rng.permutation(len(groups))]
