"""The steps of an epoch: which images, of which classes, in which order.

An epoch's order follows from (seed, epoch) alone and a step is found by its number, so that
training goes on at any step without having drawn what came before.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from retrieval.training.config import Sampler
from retrieval.training.dataset import TrainingData

# The last entry of a seed: what is drawn with it. Never 0, which numpy would not tell from nothing.
ORDER, NEGATIVES = 1, 2
TUPLE_STEP = 16  # steps of tuples are filled up to multiples of it: few sizes, for little work


@dataclass(frozen=True)
class Batch:
    """What one step is trained on.

    Attributes:
        rows: (n,) int64, distinct rows of the image matrix.
        labels: (n,) int64, their classes, numbered from 0 in the order of ``data.classes``.
        tuples: (n_tuple, 2 + neg_count) int64 places in ``rows``: anchor, positive, negatives;
            None where the loss takes classes.
        count: Tuples, or images where there are none.
        n_filled: Images that the step is filled up to with repeats of its own, as every new size
            may be compiled and tuned for anew; below ``len(rows)`` it is not filled.
    """

    rows: np.ndarray
    labels: np.ndarray
    tuples: np.ndarray | None
    count: int
    n_filled: int = 0


@dataclass(frozen=True)
class Steps:
    """The batches of one epoch, each made when it is asked for."""

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


class Source(Protocol):
    """Where batches come from."""

    unit: str  # what a batch counts

    def epoch(self, number: int) -> Steps:
        """Return the steps of an epoch, the same whenever it is asked for."""


class TupleBatches:
    """The tuples of ``train.npy`` in even epochs, of ``train2.npy`` in odd ones, each once.

    Tuples of held-out classes are left out, and negatives of held-out classes drawn again.
    """

    unit = "tuple"

    def __init__(self, data: TrainingData, batch_size: int, most: int, seed: int) -> None:
        """Args: the data, tuples of a step, tuples of an epoch at most (0: all), the seed."""
        self.data, self.batch_size, self.most, self.seed = data, batch_size, most, seed
        self.is_known = np.zeros(len(data.labels), bool)
        self.is_known[data.rows] = True
        self.usable = [self._usable(tuples) for tuples in data.tuples]

    def epoch(self, number: int) -> Steps:
        tuples, usable = self.data.tuples[number % 2], self.usable[number % 2]
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
        """Return the tuples whose anchor is not held out; None means all."""
        if not len(self.data.holdout):
            return None
        return np.flatnonzero(self.is_known[np.asarray(tuples[:, 0])])

    def _known(self, images: np.ndarray, seed: list[int]) -> np.ndarray:
        """Replace images of held-out classes, which are negatives, by known ones."""
        rng, labels = np.random.default_rng(seed), self.data.labels
        while len(self.data.holdout):
            is_own = labels[images] == labels[images[:, :1]]
            is_own[:, :2] = False
            bad = ~self.is_known[images] | is_own
            if not bad.any():
                break
            images[bad] = rng.choice(self.data.rows, bad.sum())
        return images


class ClassBatches:
    """All training images, each once in an epoch, in steps of equal size but for one image.

    With the sampler ``random`` in any order; with ``pk`` in groups of up to ``images_per_class``
    of one class (Hermans et al., In Defense of the Triplet Loss, arXiv:1703.07737), where here a
    class's last group may be smaller, and a class may be drawn twice in a step. Steps are counted
    in images, so that none is larger than ``batch_size``: the first and the last group of a step
    may go on in the step before or after it. A step without two images of one class, which
    teaches losses over pairs nothing, takes classes of hardly more than one image.
    """

    unit = "image"

    def __init__(
        self,
        data: TrainingData,
        batch_size: int,
        most: int,
        seed: int,
        sampler: Sampler = "random",
        images_per_class: int = 4,
    ) -> None:
        """Args: as for tuples, with images in place of tuples, and the sampler's."""
        self.data, self.batch_size, self.most, self.seed = data, batch_size, most, seed
        self.group = images_per_class if sampler == "pk" else 1

    def epoch(self, number: int) -> Steps:
        rng = np.random.default_rng([self.seed, number, ORDER])
        groups = class_groups(self.data.rows, self.data.labels[self.data.rows], self.group, rng)
        order = np.concatenate(groups)[: self.most or None]
        count = -(-len(order) // self.batch_size)
        edges = np.linspace(0, len(order), count + 1).round().astype(int)
        n_filled = -(-len(order) // count)

        def make(step: int) -> Batch:
            rows = np.sort(order[edges[step] : edges[step + 1]])
            return Batch(rows, self.data.numbers(rows), None, len(rows), n_filled)

        return Steps(count, make)


def class_groups(
    rows: np.ndarray, labels: np.ndarray, size: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Divide images into groups of at most ``size`` of one class, in random order.

    Args:
        rows: (n,) int64.
        labels: (n,) int64, the class of each.
        size: Images of a group; a class's last group may be smaller.
        rng: Where the order of images and groups is drawn from.
    """
    shuffled = rng.permutation(len(rows))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    _, starts, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    place = np.arange(len(rows)) - np.repeat(starts, counts)
    groups = np.split(rows[by_class], np.flatnonzero(place % size == 0)[1:])
    return [groups[i] for i in rng.permutation(len(groups))]
