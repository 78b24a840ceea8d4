"""Suspicious images as one table, the most serious first."""

import logging
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retrieval.data import image_index, layout, provenance
from retrieval.data.formats import InputError
from retrieval.report import near_duplicates
from retrieval.report.near_duplicates import ImageMatrices, Marks, Pairs

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

PLACES = ("train", "valid", "database", "test")
QUERIES = ("valid", "test")
KINDS = {
    "exact": "the same pixels",
    "near": "the same picture, saved, scaled or lit another way",
    "name": "one file name under two classes; only where the csv has FileName",
    "blank": "an image of one color, or nearly",
    "single": "the only image of its class in the database",
}
MOST_OF_A_NAME = 10  # images; a name with more is a counter, not a photo
TUPLE_BLOCK = 1 << 20  # tuples read at once


@dataclass(frozen=True)
class ImageSet:
    """All images: those of the database, then the test images.

    Attributes:
        images: Their pixels, memory-mapped.
        table: (n_image,) rows: Index in its matrix, Path, Class, and Where: ``train``,
            ``valid``, ``database`` (neither, but it may be retrieved) or ``test``; FileName
            if the csv has it.
    """

    images: ImageMatrices
    table: "pd.DataFrame"


def load_images(data_dir: Path, iname: str | None = None, tindex: str | None = None) -> ImageSet:
    """Read the lists of all images, and map their pixels.

    Args:
        data_dir: The data directory.
        iname: Index csv of ``imageset.npy``; None takes ``car_front.csv`` or ``indexinfo.csv``.
        tindex: Index csv of ``test_image.npy``; None takes ``tindexinfo.csv``. Without test
            images, only the database is read.
    """
    import pandas as pd

    if iname is None:
        is_own = not layout.CAR_FRONT.at(data_dir).exists()
        iname = (layout.IMAGE_INDEX if is_own else layout.CAR_FRONT).name
    matrices = [layout.IMAGE_MATRIX.load(data_dir)]
    database = _index(data_dir, iname, len(matrices[0]), layout.IMAGE_MATRIX.name, "--iname")
    database["Where"] = _places(data_dir, database["Class"].to_numpy(np.int64), iname)
    tables = [database]
    if layout.TEST_MATRIX.at(data_dir).exists():
        matrices.append(layout.TEST_MATRIX.load(data_dir))
        tindex = tindex or layout.TEST_INDEX.name
        test = _index(data_dir, tindex, len(matrices[1]), layout.TEST_MATRIX.name, "--tindex")
        tables.append(test.assign(Where="test"))
    return ImageSet(ImageMatrices(matrices), pd.concat(tables, ignore_index=True))


def find(
    images: ImageSet, distance: int = 10, similarity: float = 0.97, contrast: float = 2.0
) -> "pd.DataFrame":
    """Return everything that looks wrong, in the columns of ``audit.csv``, the worst first.

    Pairs with two classes come first, then pairs of a query and another place, then by
    similarity. A query whose copy is in the training set or the gallery inflates every metric; one
    under two classes counts as wrong for any result.

    Args:
        images: All images.
        distance: Bits of 64 in which the hashes of near duplicates may differ.
        similarity: Correlation that their pictures must have.
        contrast: Standard deviation of the luma, in grey levels, below which an image is blank;
            blank images are alike in nothing but that, and are in no pair.

    Returns:
        The table; its ``attrs["n_cut"]`` counts the images with missing pairs.
    """
    import pandas as pd

    marks = images.images.marks()
    is_blank = marks.contrasts < contrast
    rows = np.flatnonzero(~is_blank)
    among, is_full = near_duplicates.near_pairs(marks.hashes[rows], distance)
    if is_full.any():
        log.warning(
            "%d images have too many near duplicates; only the nearest are listed", is_full.sum()
        )
    pairs = Pairs(rows[among.first], rows[among.second], among.distances)
    alike = images.images.similarities(pairs)
    is_exact = (marks.digests[pairs.first] == marks.digests[pairs.second]).all(axis=1)
    is_found = is_exact | (alike >= similarity)
    kinds = np.where(is_exact, "exact", "near")
    parts = [_pair_rows(images, pairs[is_found], kinds[is_found], alike[is_found])]
    parts.append(_name_rows(images, marks, parts[0], np.flatnonzero(is_blank)))
    parts.append(_image_rows(images, np.flatnonzero(is_blank), "blank"))
    in_database = images.table[images.table["Where"] != "test"]
    is_single = ~in_database["Class"].duplicated(keep=False)
    parts.append(_image_rows(images, in_database.index[is_single].to_numpy(), "single"))
    found = _by_seriousness(pd.concat([part for part in parts if len(part)] or parts[:1]))
    found.attrs["n_cut"] = int(is_full.sum())
    return found


def count(findings: "pd.DataFrame") -> "pd.DataFrame":
    """Count the findings: Kind, Where, Found, and Conflicts (pairs with two classes)."""
    import pandas as pd

    places = [
        " - ".join(sorted(filter(None, pair), key=PLACES.index))
        for pair in zip(findings["WhereA"], findings["WhereB"], strict=True)
    ]
    table = findings.assign(Where=places, Conflict=findings["Conflict"] == "yes")
    groups = table.groupby(["Kind", "Where"])["Conflict"].agg(["size", "sum"]).reset_index()
    groups.columns = pd.Index(["Kind", "Where", "Found", "Conflicts"])
    order = groups["Kind"].map(list(KINDS).index)
    return groups.iloc[np.lexsort([groups["Where"], order])].reset_index(drop=True)


def count_places(images: ImageSet) -> dict[str, int]:
    """Count the images in each place that has any."""
    counts = images.table["Where"].value_counts()
    return {place: int(counts[place]) for place in PLACES if place in counts}


def _index(data_dir: Path, name: str, n_image: int, matrix: str, flag: str) -> "pd.DataFrame":
    table = image_index.by_index(layout.IMAGE_INDEX.load(data_dir, name), name)
    if len(table) != n_image:
        raise InputError(
            f"{name} lists {len(table)} images and {matrix} holds {n_image}; name the csv that "
            f"{matrix} was made from with {flag}"
        )
    record = provenance.load_record(data_dir, matrix, layout.IMAGE_MATRIX) or {}
    if record.get("index_sha256") not in (None, provenance.index_hash(table)):
        raise InputError(
            f"{matrix} was made from another list of images than {name} is now; name the csv that "
            f"it was made from with {flag}, or make it again: "
            f"{layout.IMAGE_MATRIX.made_by(data_dir, matrix)}"
        )
    return table[[c for c in ("Index", "Path", "Class", "FileName") if c in table.columns]].copy()


def _places(data_dir: Path, labels: np.ndarray, iname: str) -> np.ndarray:
    """Return the place of each database image; before the split, all are in ``database``."""
    n_image = len(labels)
    places = np.full(n_image, "database", dtype=object)
    for file, place in ((layout.TRAIN, "train"), (layout.VALID_QUERIES, "valid")):
        if not file.at(data_dir).exists():
            continue
        rows = file.load(data_dir)
        if file is layout.VALID_QUERIES:
            image_index.check_once(rows[:, 0], file.name)
            image_index.check_listed(
                rows, labels, file.name, iname, f"run again: {file.made_by(data_dir)}"
            )
        columns = slice(None) if place == "train" else slice(1)
        for start in range(0, len(rows), TUPLE_BLOCK):
            index = np.unique(rows[start : start + TUPLE_BLOCK, columns])
            image_index.check_rows(index, n_image, file.name, layout.IMAGE_MATRIX.name)
            places[index] = place
    return places


def _pair_rows(
    images: ImageSet, pairs: Pairs, kinds: np.ndarray, similarities: np.ndarray
) -> "pd.DataFrame":
    import pandas as pd

    first, second = (images.table.iloc[rows] for rows in (pairs.first, pairs.second))
    columns: dict[str, object] = {
        "Kind": kinds,
        "Distance": pd.array(pairs.distances, "Int64"),
        "Similarity": np.round(similarities.astype(np.float64), 4),
    }
    for name in ("Index", "Path", "Class", "Where"):
        columns[name + "A"] = first[name].to_numpy()
        is_number = name in ("Index", "Class")  # empty without a second image
        values = second[name].to_numpy()
        columns[name + "B"] = pd.array(values, "Int64") if is_number else values
    is_conflict = first["Class"].to_numpy() != second["Class"].to_numpy()
    columns["Conflict"] = np.where(is_conflict, "yes", "no")
    return pd.DataFrame(columns)


def _name_rows(
    images: ImageSet, marks: Marks, known: "pd.DataFrame", left_out: np.ndarray
) -> "pd.DataFrame":
    """Return pairs with one FileName and two classes that are not found otherwise."""
    import pandas as pd

    table = images.table
    pairs: list[tuple[int, int]] = []
    if "FileName" in table.columns:
        named = table[table["FileName"].notna() & ~table.index.isin(left_out)]
        named = named[named.duplicated("FileName", keep=False)]
        for _, group in named.groupby("FileName"):
            if len(group) <= MOST_OF_A_NAME:
                pairs += combinations(group.index.tolist(), 2)
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    distances = near_duplicates.hash_distances(marks.hashes, first, second)
    found = Pairs(first, second, distances)
    rows = _pair_rows(images, found, np.full(len(found), "name"), images.images.similarities(found))
    keys = ["IndexA", "WhereA", "IndexB", "WhereB"]
    is_known = pd.MultiIndex.from_frame(rows[keys]).isin(pd.MultiIndex.from_frame(known[keys]))
    return rows[(rows["Conflict"] == "yes").to_numpy() & ~is_known]


def _image_rows(images: ImageSet, rows: np.ndarray, kind: str) -> "pd.DataFrame":
    """Return single images as pairs without a second one."""
    import pandas as pd

    zeros = np.zeros(len(rows), np.int64)
    table = _pair_rows(images, Pairs(rows, rows, zeros), np.full(len(rows), kind), zeros)
    for name in ("Distance", "Similarity", "IndexB", "ClassB"):
        table[name] = pd.array([pd.NA] * len(rows), "Int64" if name != "Similarity" else "Float64")
    return table.assign(PathB="", WhereB="", Conflict="")


def _by_seriousness(findings: "pd.DataFrame") -> "pd.DataFrame":
    import pandas as pd

    where_a, where_b = findings["WhereA"], findings["WhereB"]
    is_across = (where_a != where_b) & (where_a.isin(QUERIES) | where_b.isin(QUERIES))
    keys = pd.DataFrame(
        {
            "is_one": findings["Kind"].isin(("blank", "single")),
            "is_same": findings["Conflict"] != "yes",
            "is_within": ~is_across,
            "kind": findings["Kind"].map(list(KINDS).index),
            "similarity": -findings["Similarity"].astype("Float64").fillna(0),
            "where": findings["WhereA"],
            "index": findings["IndexA"],
            "other": findings["IndexB"].fillna(-1),
        }
    ).reset_index(drop=True)
    order = keys.sort_values(list(keys.columns), kind="stable").index
    return findings.iloc[order.to_numpy()].reset_index(drop=True)
