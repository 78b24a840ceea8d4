"""The batches of an epoch: which images, in which order.

The order follows from (seed, epoch) alone, and a batch from its number, so that training resumes
at any step without drawing the steps before it. With fewer images or tuples per epoch than there
are (``--max_tuples``), an epoch goes on where the one before stopped, so that all are drawn before
any is drawn again.
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
        rows: (n,) int64, rows of the image matrix, ascending.
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
    n_unit: int  # of an epoch

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
        self.n_unit = min(self._size(number) for number in (0, 1))

    def epoch(self, number: int) -> Steps:
        tuples, usable = self.tuples[number % 2], self.usable[number % 2]
        n = len(tuples) if usable is None else len(usable)

        def order_of_pass(again: int) -> np.ndarray:
            return np.random.default_rng([self.seed, 2 * again + number % 2, ORDER]).permutation(n)

        order = draw_in_turn(number // 2, self._size(number), n, order_of_pass)
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

    def _size(self, number: int) -> int:
        """Return the number of tuples of an epoch."""
        usable = self.usable[number % 2]
        n = len(self.tuples[number % 2]) if usable is None else len(usable)
        return min(n, self.most or n)

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
        self.domains = [np.setdiff1d(data.rows, data.cameras), data.cameras]
        self.n_pass = 2 * max(map(len, self.domains)) if len(data.cameras) else len(data.rows)
        self.n_unit = min(self.n_pass, most or self.n_pass)

    def epoch(self, number: int) -> Steps:
        order = draw_in_turn(number, self.n_unit, self.n_pass, self._order)
        count = -(-len(order) // self.batch_size)
        edges = np.linspace(0, len(order), count + 1).round().astype(int)
        n_filled = -(-len(order) // count)

        def make(step: int) -> Batch:
            rows = np.sort(order[edges[step] : edges[step + 1]])
            return Batch(rows, self.data.numbers(rows), None, len(rows), n_filled)

        return Steps(count, make)

    def _order(self, number: int) -> np.ndarray:
        """Return all images in the random order of a pass, those of two domains alternating."""
        rng = np.random.default_rng([self.seed, number, ORDER])

        def ordered(rows: np.ndarray) -> np.ndarray:
            return np.concatenate(class_groups(rows, self.data.labels[rows], self.group, rng))

        if not len(self.data.cameras):
            return ordered(self.data.rows)
        n = max(map(len, self.domains))
        orders = []
        for rows in self.domains:
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


def draw_in_turn(
    number: int, count: int, n: int, order_of_pass: Callable[[int], np.ndarray]
) -> np.ndarray:
    """Return the units of an epoch: the next ``count`` of one pass over all of them after another.

    Args:
        number: The epoch, from 0.
        count: Units of an epoch, at most ``n``.
        n: Units of a pass.
        order_of_pass: Number of a pass -> (n,) int64, all units in the order of that pass.

    >>> three = lambda again: 10 * again + np.arange(3)
    >>> [draw_in_turn(epoch, 2, 3, three).tolist() for epoch in range(3)]
    [[0, 1], [2, 10], [11, 12]]
    """
    start, stop = number * count, (number + 1) * count
    passes = range(start // n, -(-stop // n))
    orders = [
        order_of_pass(again)[max(0, start - again * n) : stop - again * n] for again in passes
    ]
    return np.concatenate(orders)


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
