"""Split an index into training and validation images, and draw the training tuples.

Reads   car_front.csv, or the index csv given as --iname
Writes  train.npy, train2.npy, valid.npy, valid_for_test.npy, model_num.json, cutted_class.json,
        split.json

    python -m process_data.make_train_valid --dpath=~/ir/

With --protocol=classes, half of the classes trains, and each image of the other half is searched
among all others, as papers evaluate on Cars196, CUB-200-2011 and SOP. The first half trains, or the
classes that the column Split of the index names:

    python -m process_data.make_train_valid --dpath=~/ir/ --protocol=classes

A small collection of your own is split as far as its classes allow with --fit:

    python -m process_data.make_train_valid --dpath=~/ir/ --iname=imageset.json --fit
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if __name__ == "__main__":  # before numpy is loaded
    from retrieval.threads import prepare_command

    prepare_command()

import numpy as np
from tqdm import tqdm

from retrieval import cli
from retrieval.data import files, image_index, layout, provenance, sources
from retrieval.data.formats import InputError
from retrieval.data.split import Protocol, Split, split_classes, split_images
from retrieval.data.tuples import draw_others, tuple_blocks

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


def valid_pairs(split: Split, protocol: Protocol, rng: np.random.Generator) -> np.ndarray:
    """Pair each validation query with an image of its class and with one of another class.

    The partners are training images, or with ``classes`` other validation images.

    Returns:
        (2 * n_valid, 3) int64: validation image, its partner, 1 same class / 0 different.
    """
    partners = split.train if protocol == "images" else split.valid
    flat = np.concatenate(partners)
    sizes = np.array([len(images) for images in partners])
    starts = np.cumsum(sizes) - sizes
    pairs = []
    for position in np.flatnonzero(~split.is_minor):
        queries, start, size = split.valid[position], starts[position], sizes[position]
        if protocol == "images":
            same = rng.integers(0, size, len(queries))
        elif size > 1:  # any position but its own
            same = (np.arange(size) + rng.integers(1, size, size)) % size
        else:
            continue
        own = np.full(len(queries), start), np.full(len(queries), size)
        other = flat[draw_others(*own, len(flat), 1, rng)[:, 0]]
        pairs.append(np.column_stack([queries, flat[start + same], np.ones_like(queries)]))
        pairs.append(np.column_stack([queries, other, np.zeros_like(queries)]))
    return np.concatenate(pairs)


def run(
    data_dir: Path,
    iname: str = layout.CAR_FRONT.name,
    ratio: int = 7,
    min_len: int = 58,
    neg_count: int = 4,
    seed: int = 7,
    protocol: Protocol = "images",
    fit: bool = False,
) -> Path | None:
    """Write the split and the training tuples, and return the path of ``train.npy``.

    None, with a line, if ``fit`` and there is too little to train on: then there is no split.

    Args:
        data_dir: The data directory.
        iname: Index csv with the columns Class and Index; or the record of an image matrix, such as
            ``imageset.json``, which names the csv that it was made from.
        ratio: One in ``ratio`` images of a class is for validation.
        min_len: Classes with fewer images are minor: no queries, and not in the evaluation.
        neg_count: Negatives per training tuple.
        seed: Seed of everything random.
        protocol: ``images`` validates on images of known classes; ``classes`` on half of the
            classes, the second or those of ``Split``, whatever ``ratio`` and ``min_len``.
        fit: Lower ``ratio``, ``min_len`` and ``neg_count`` to what the classes allow.
    """
    if ratio < 2 or min_len < 1 or neg_count < 1:
        raise InputError(
            "--ratio must be at least 2, --min_len and --neg_count at least 1; "
            f"got {ratio}, {min_len} and {neg_count}"
        )
    if iname.endswith(".json"):
        iname = _index_of(data_dir, iname)
    table = image_index.by_index(layout.IMAGE_INDEX.load(data_dir, iname), iname)
    sources.warn_stale(data_dir, iname, photos=True)
    rng = np.random.default_rng(seed)
    labels = table["Class"].to_numpy()
    if fit:
        fitted = fitted_options(labels, ratio, min_len, neg_count)
        if fitted is None:
            layout.SPLIT.at(data_dir).unlink(missing_ok=True)  # of other images
            log.warning(
                "%s: too few photos in classes to train on (it takes two classes of two photos and "
                "one of three); an untrained model searches them: train.py --epoch=0",
                iname,
            )
            return None
        if fitted != (ratio, min_len, neg_count):
            ratio, min_len, neg_count = fitted
            log.info("small classes: --ratio=%d --min_len=%d --neg_count=%d are taken", *fitted)
    if protocol == "classes":
        split = split_classes(labels, _published_split(table, iname))
        _check_classes(split, iname)
    else:
        split = split_images(labels, ratio, min_len, rng)
    _check_training(split, iname, neg_count)
    if protocol == "images":
        _check_queries(split, iname, ratio, min_len)
    pairs = valid_pairs(split, protocol, rng)
    # A split without its record is not finished, and refused.
    layout.SPLIT.at(data_dir).unlink(missing_ok=True)
    path = _write_tuples(data_dir, split, neg_count, rng)
    layout.VALID_PAIRS.save(data_dir, pairs)
    queries = split.queries()
    layout.VALID_QUERIES.save(data_dir, queries)
    of_class = zip(split.classes.tolist(), split.images, strict=True)
    layout.CLASS_IMAGES.save(data_dir, {str(label): images.tolist() for label, images in of_class})
    layout.MINOR_CLASSES.save(data_dir, split.classes[split.is_minor].tolist())
    record = {"protocol": protocol, "index": iname, "seed": seed, "neg_count": neg_count}
    record |= {"index_sha256": provenance.index_hash(table), "sha256": split.digest()}
    columns = [name for name in ("Index", "Path", "Class", "Split") if name in table.columns]
    record["sources"] = sources.states(data_dir, iname, columns=columns)
    if protocol == "images":
        record |= {"ratio": ratio, "min_len": min_len}
    layout.SPLIT.save(data_dir, record)
    kind = "trained on" if protocol == "classes" else f"minor (fewer than {min_len} images)"
    log.info(
        "%d images of %d classes, %d of them %s; %d validation queries",
        len(table),
        len(split.classes),
        split.is_minor.sum(),
        kind,
        len(queries),
    )
    return path


def _published_split(table: "pd.DataFrame", iname: str) -> np.ndarray | None:
    """Return which images are of classes to train on, (n,) bool; None if the index has no Split."""
    if "Split" not in table.columns:
        return None
    if table.groupby("Class")["Split"].nunique().max() > 1:
        raise InputError(
            f"{iname}: a class has images of both Splits; make it with data_info again"
        )
    return (table["Split"] == "train").to_numpy()


def fitted_options(
    labels: np.ndarray, ratio: int, min_len: int, neg_count: int
) -> tuple[int, int, int] | None:
    """Return ``ratio``, ``min_len`` and ``neg_count``, lowered to what the classes allow.

    The largest class gives a validation query, and keeps two photos to train on.

    Args:
        labels: (n_image,) int64, class of each image; -1: none.
        ratio: One in ``ratio`` images of a class is for validation.
        min_len: Classes with fewer images are not evaluated.
        neg_count: Negatives per training tuple.

    Returns:
        None if there are not two classes of two photos, one of them of three.

    >>> fitted_options(np.repeat([0, 1, 2], 5), 7, 10, 4)
    (5, 5, 4)
    >>> fitted_options(np.repeat([0, 1], 40), 7, 10, 4)
    (7, 10, 4)
    >>> fitted_options(np.array([0, 0, 0, 1]), 7, 10, 4) is None
    True
    """
    sizes = np.sort(np.unique(labels[labels >= 0], return_counts=True)[1])[::-1]
    if len(sizes) < 2 or sizes[0] < 3 or sizes[1] < 2:
        return None
    min_len = min(min_len, int(sizes[0]))
    ratio = min(ratio, min_len)
    others = int((sizes - sizes // ratio)[1:].sum())
    return ratio, min_len, min(neg_count, others)


def _index_of(data_dir: Path, record_name: str) -> str:
    """Return the csv that an image matrix was made from, as its record says."""
    name = Path(record_name).with_suffix(".npy").as_posix()
    record = provenance.load_record(data_dir, name, layout.IMAGE_MATRIX)
    if not record or not isinstance(record.get("index"), str):
        raise InputError(
            f"{record_name} does not name the csv of its images; name it with --iname, or make the "
            f"image matrix again: {layout.IMAGE_MATRIX.made_by(data_dir, name)}"
        )
    return str(record["index"])


def _check_classes(split: Split, iname: str) -> None:
    if len(split.classes) < 4:
        raise InputError(
            f"{iname} has {len(split.classes)} classes; --protocol=classes needs at least four: "
            "two to train on and two to search"
        )
    if max(map(len, split.valid)) < 2:
        raise InputError(
            f"no class of the second half of {iname} has two images: nothing could be found"
        )


def _check_training(split: Split, iname: str, neg_count: int) -> None:
    if len(split.classes) < 2:
        raise InputError(
            f"{iname} has one class only, and negatives need at least two; an untrained model "
            "searches it: train.py --epoch=0"
        )
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


def _check_queries(split: Split, iname: str, ratio: int, min_len: int) -> None:
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
    parser.add_argument(
        "--iname", help="index csv with Class and Index, or the record (.json) of an image matrix"
    )
    parser.add_argument("--ratio", type=int, help="one in N images is for validation")
    parser.add_argument("--min_len", type=int, help="classes with fewer images are not evaluated")
    parser.add_argument("--neg_count", type=int, help="negatives per training tuple")
    parser.add_argument("--seed", type=int, help="random seed of split and tuples")
    parser.add_argument(
        "--protocol",
        choices=get_args(Protocol),
        help="images: validate on images of known classes; classes: on the second half of the "
        "classes, each image searched among all others",
    )
    parser.add_argument(
        "--fit",
        action=argparse.BooleanOptionalAction,
        help="lower --ratio, --min_len and --neg_count to what small classes allow; where nothing "
        "can be trained on, write no split and say so",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
