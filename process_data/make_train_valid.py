"""Split an index into training and validation images, and draw the training tuples.

Reads   car_front.csv, or the index csv given as --iname
Writes  train.npy, train2.npy, valid.npy, valid_for_test.npy, model_num.json, cutted_class.json

    python -m process_data.make_train_valid --dpath=~/ir/
"""

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from tqdm import tqdm

from retrieval import cli
from retrieval.data import files, image_index, layout
from retrieval.data.formats import InputError

log = logging.getLogger(__name__)

PAIR_BLOCK = 200_000  # pairs drawn at once; bounds the memory


@dataclass(frozen=True)
class Split:
    """The images of each class; lists are in the order of ``classes``.

    Attributes:
        classes: (n_class,) int64, ascending.
        images: One int64 array per class: the Indexes of its images, ascending.
        train: One int64 array per class: the Indexes for training.
        valid: One int64 array per class: the Indexes for validation, disjoint from ``train``.
        is_minor: (n_class,) bool, True if the class has too few images for the evaluation.
    """

    classes: np.ndarray
    images: list[np.ndarray]
    train: list[np.ndarray]
    valid: list[np.ndarray]
    is_minor: np.ndarray


def split_classes(labels: np.ndarray, ratio: int, min_len: int, rng: np.random.Generator) -> Split:
    """Set aside ``n // ratio`` of the n images of each class for validation.

    Args:
        labels: (n_image,) int64, class of each image.
        ratio: One in ``ratio`` images of a class is for validation.
        min_len: Classes with fewer images are minor.
        rng: Random source of the split.
    """
    classes, counts = np.unique(labels, return_counts=True)
    images = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    train, valid = [], []
    for of_class in images:
        shuffled = rng.permutation(of_class)
        n_valid = len(of_class) // ratio
        valid.append(np.sort(shuffled[:n_valid]))
        train.append(np.sort(shuffled[n_valid:]))
    return Split(classes, images, train, valid, counts < min_len)


def draw_others(
    starts: np.ndarray, sizes: np.ndarray, n_total: int, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw positions outside each row's own range, uniformly and without replacement.

    Args:
        starts: (n,) int64, start of the own range of each row.
        sizes: (n,) int64, length of the own range.
        n_total: Positions run from 0 to ``n_total - 1``.
        count: Positions to draw per row; at most ``n_total - sizes``.
        rng: Random source of the positions.

    Returns:
        (n, count) int64. Each row is a uniform random subset, drawn with Floyd's algorithm
        (Bentley and Floyd, Comm. ACM 30(9), 1987).
    """
    pool = n_total - sizes
    drawn = np.empty((len(starts), count), np.int64)
    for column in range(count):
        last = pool - count + column
        candidate = rng.integers(0, last + 1)
        is_taken = (drawn[:, :column] == candidate[:, None]).any(axis=1)
        drawn[:, column] = np.where(is_taken, last, candidate)
    return drawn + np.where(drawn >= starts[:, None], sizes[:, None], 0)


def tuple_blocks(
    train: list[np.ndarray], neg_count: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield all pairs of training images of the same class, with negatives of other classes.

    Args:
        train: One int64 array per class: the Indexes of its training images.
        neg_count: Negatives per pair.
        rng: Random source of the negatives.

    Yields:
        Two (n, 2 + neg_count) int64 arrays of Indexes: the same pairs in both directions, with
        separate negatives. Columns are anchor, positive, negatives.
    """
    flat = np.concatenate(train)
    sizes = np.array([len(images) for images in train])
    starts = np.cumsum(sizes) - sizes
    for start, size in zip(starts, sizes, strict=True):
        for first, second in _pair_blocks(size):
            anchors, positives = flat[start + first], flat[start + second]
            own = np.full(len(first), start), np.full(len(first), size)
            yield tuple(  # type: ignore[misc]
                np.column_stack([*pair, flat[draw_others(*own, len(flat), neg_count, rng)]])
                for pair in ((anchors, positives), (positives, anchors))
            )


def _pair_blocks(size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield all pairs i < j below ``size`` in order, for a block of i at a time."""
    rows = max(1, PAIR_BLOCK // max(size, 1))
    for start in range(0, size - 1, rows):
        first = np.arange(start, min(start + rows, size - 1))
        repeats = size - 1 - first
        ends = np.cumsum(repeats)
        i = np.repeat(first, repeats)
        yield i, np.arange(ends[-1]) - np.repeat(ends - repeats, repeats) + i + 1


def valid_pairs(split: Split, rng: np.random.Generator) -> np.ndarray:
    """Pair each validation query with a training image of its class and one of another class.

    Returns:
        (2 * n_valid, 3) int64: validation image, training image, 1 same class / 0 different.
    """
    flat = np.concatenate(split.train)
    sizes = np.array([len(images) for images in split.train])
    starts = np.cumsum(sizes) - sizes
    pairs = []
    for position in np.flatnonzero(~split.is_minor):
        queries, start, size = split.valid[position], starts[position], sizes[position]
        own = np.full(len(queries), start), np.full(len(queries), size)
        same = flat[start + rng.integers(0, size, len(queries))]
        other = flat[draw_others(*own, len(flat), 1, rng)[:, 0]]
        pairs.append(np.column_stack([queries, same, np.ones_like(queries)]))
        pairs.append(np.column_stack([queries, other, np.zeros_like(queries)]))
    return np.concatenate(pairs)


def run(
    data_dir: Path,
    iname: str = layout.CAR_FRONT.name,
    ratio: int = 7,
    min_len: int = 58,
    neg_count: int = 4,
    seed: int = 7,
) -> Path:
    """Write the split and the training tuples, and return the path of ``train.npy``.

    Args:
        data_dir: The data directory.
        iname: Index csv with the columns Class and Index.
        ratio: One in ``ratio`` images of a class is for validation.
        min_len: Classes with fewer images are minor: no queries, and not in the evaluation.
        neg_count: Negatives per training tuple.
        seed: Seed of everything random.
    """
    if ratio < 2 or min_len < 1 or neg_count < 1:
        raise InputError(
            "--ratio must be at least 2, --min_len and --neg_count at least 1; "
            f"got {ratio}, {min_len} and {neg_count}"
        )
    table = image_index.by_index(layout.IMAGE_INDEX.load(data_dir, iname), iname)
    rng = np.random.default_rng(seed)
    split = split_classes(table["Class"].to_numpy(), ratio, min_len, rng)
    _check_possible(split, iname, ratio, min_len, neg_count)
    queries = [
        np.column_stack([images, np.full(len(images), label)])
        for label, images, is_minor in zip(split.classes, split.valid, split.is_minor, strict=True)
        if not is_minor
    ]
    pairs = valid_pairs(split, rng)
    path = _write_tuples(data_dir, split, neg_count, rng)
    layout.VALID_PAIRS.save(data_dir, pairs)
    layout.VALID_QUERIES.save(data_dir, np.concatenate(queries))
    of_class = zip(split.classes.tolist(), split.images, strict=True)
    layout.CLASS_IMAGES.save(data_dir, {str(label): images.tolist() for label, images in of_class})
    layout.MINOR_CLASSES.save(data_dir, split.classes[split.is_minor].tolist())
    log.info(
        "%d images of %d classes, %d of them minor (fewer than %d images); %d validation queries",
        len(table),
        len(split.classes),
        split.is_minor.sum(),
        min_len,
        len(pairs) // 2,
    )
    return path


def _check_possible(split: Split, iname: str, ratio: int, min_len: int, neg_count: int) -> None:
    if len(split.classes) < 2:
        raise InputError(f"{iname} has one class only; negatives need at least two")
    sizes = np.array([len(images) for images in split.train])
    largest = int(sizes.argmax())
    others = int(sizes.sum() - sizes[largest])
    if others < neg_count:
        raise InputError(
            f"class {split.classes[largest]} of {iname} has {others} training images of other "
            f"classes to draw negatives from; use --neg_count={others} or add images"
        )
    if sizes.max() < 2:
        raise InputError(f"no class of {iname} has two training images; add images")
    n_largest = max(len(images) for images in split.images)
    if not any(len(v) for v, minor in zip(split.valid, split.is_minor, strict=True) if not minor):
        raise InputError(
            f"no validation query is left: the largest class of {iname} has {n_largest} images; "
            f"lower --min_len={min_len} to at most that, and --ratio={ratio} too if it is above it"
        )


def _write_tuples(data_dir: Path, split: Split, neg_count: int, rng: np.random.Generator) -> Path:
    """Stream ``train.npy`` and ``train2.npy`` to disk, in constant memory."""
    n_pair = sum(len(images) * (len(images) - 1) // 2 for images in split.train)
    shape = (n_pair, 2 + neg_count)
    path = layout.TRAIN.at(data_dir)
    row = 0
    with (
        files.row_writer(path, shape, layout.TRAIN.dtype) as forward,
        files.row_writer(
            layout.TRAIN_REVERSED.at(data_dir), shape, layout.TRAIN_REVERSED.dtype
        ) as backward,
        tqdm(total=n_pair, desc="tuples", unit="pair", disable=None) as bar,
    ):
        for tuples, reversed_tuples in tuple_blocks(split.train, neg_count, rng):
            forward.write(row, tuples)
            backward.write(row, reversed_tuples)
            row += len(tuples)
            bar.update(len(tuples))
    log.info("%s and %s: %d tuples each", path.name, layout.TRAIN_REVERSED.name, n_pair)
    return path


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    parser.add_argument("--iname", help="index csv with the columns Class and Index")
    parser.add_argument("--ratio", type=int, help="one in N images is for validation")
    parser.add_argument("--min_len", type=int, help="classes with fewer images are not evaluated")
    parser.add_argument("--neg_count", type=int, help="negatives per training tuple")
    parser.add_argument("--seed", type=int, help="seed of everything random")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
