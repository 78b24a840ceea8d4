"""The content of an audit's page."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retrieval.report import image_audit
from retrieval.report.image_audit import ImageSet
from retrieval.report.page import picture

if TYPE_CHECKING:
    import pandas as pd

ONES = ("blank", "single")
MOST_ONES = 24  # images shown of each kind that is not a pair


@dataclass(frozen=True)
class Side:
    """One image of a finding."""

    source: str
    where: str
    name: str
    path: str


@dataclass(frozen=True)
class Finding:
    """One row of ``audit.csv`` with its pictures."""

    kind: str
    sides: list[Side]
    distance: int = 0
    similarity: float = 0.0
    is_conflict: bool = False


def audit_content(
    images: ImageSet,
    found: "pd.DataFrame",
    counts: "pd.DataFrame",
    names: dict[int, str],
    limit: int,
) -> dict[str, Any]:
    """Return the content of ``audit.html``.

    Args:
        images: All images.
        found: What `image_audit.find` returned.
        counts: What `image_audit.count` returned.
        names: Class -> name.
        limit: Pairs to show.
    """
    rows = {(place == "test", index): row for row, (place, index) in enumerate(
        zip(images.table["Where"], images.table["Index"], strict=True))}  # fmt: skip
    pairs = found[~found["Kind"].isin(ONES)]
    shown = pairs.head(limit).to_dict("records")
    ones = {kind: found[found["Kind"] == kind] for kind in ONES}
    return {
        "title": "Audit of the images",
        "places": image_audit.count_places(images),
        "counts": counts.to_dict("records"),
        "kinds": image_audit.KINDS,
        "n_pair": len(pairs),
        "n_cut": found.attrs.get("n_cut", 0),
        "n_conflict": int((pairs["Conflict"] == "yes").sum()),
        "pairs": [_finding(row, images, rows, names) for row in shown],
        "ones": {
            kind: [
                _finding(row, images, rows, names)
                for row in table.head(MOST_ONES).to_dict("records")
            ]
            for kind, table in ones.items()
        },
        "n_ones": {kind: len(table) for kind, table in ones.items()},
    }


def _finding(
    row: dict[Any, Any], images: ImageSet, rows: dict[tuple[bool, int], int], names: dict[int, str]
) -> Finding:
    sides = []
    for letter in "AB"[: 1 if row["Kind"] in ONES else 2]:
        where, label = row["Where" + letter], int(row["Class" + letter])
        pixels = images.images[rows[where == "test", int(row["Index" + letter])]]
        name = names.get(label, f"class {label}")
        sides.append(Side(picture(pixels), where, name, str(row["Path" + letter])))
    if len(sides) == 1:
        return Finding(row["Kind"], sides)
    is_conflict = row["Conflict"] == "yes"
    return Finding(row["Kind"], sides, int(row["Distance"]), float(row["Similarity"]), is_conflict)
