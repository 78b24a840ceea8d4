"""Rows of a store, one per image, and the record that all rows share."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from retrieval.data.formats import InputError

FIRST_PHOTO_ID = 1 << 52  # ids from here on come from hashes; below 2 ** 53 a float64 is exact
LARGEST_ID = 2**63 - 1
UNKNOWN = -1  # class of a photo without one
MOST_OFF_UNIT = 1e-3  # of a norm; bfloat16 rounds embeddings by less

# Options of build_image_db that change an embedding.
ENCODING = ("checkpoint_sha256", "dim", "tta", "scales", "adapt_bn", "transform_sha256")
PREPARING = ("image_resolution", "filter_type", "crop")  # options of image_matrix that do, too


@dataclass(slots=True)
class ImageRow:
    """One image of a store.

    Attributes:
        id: Its number, which never changes and is given to no other image until the store is
            renewed: the Index of a published image, `photo_id` of an added one.
        embedding: (dim,) float32 of unit L2 norm.
        sha256: SHA-256 of the image file, in hexadecimal.
        label: Class (model id), -1 if unknown.
        make: Name of the make, empty if unknown.
        model: Name of the model, empty if unknown.
        year: Year, empty if unknown.
        viewpoint: Name of the viewpoint, such as ``front side``, empty if unknown.
        box: x1, y1, x2, y2 of the car in pixels of the image file; None if there is none.
        path: Path of the image file, as the index names it.
        thumbnail: JPEG file, the longer side at most 128 px.
        added_ns: When the row was added, nanoseconds since 1970; the store sets it.
    """

    id: int
    embedding: np.ndarray
    sha256: str
    label: int = UNKNOWN
    make: str = ""
    model: str = ""
    year: str = ""
    viewpoint: str = ""
    box: tuple[float, float, float, float] | None = None
    path: str = ""
    thumbnail: bytes = b""
    added_ns: int = 0

    @property
    def metadata(self) -> "Metadata":
        """Metadata of the image."""
        return Metadata(self.make, self.model, self.label, self.year, self.viewpoint)


class Metadata(NamedTuple):
    """Metadata of an image, by which filters select.

    Attributes:
        make: Name of the make, empty if unknown.
        model: Name of the model, empty if unknown.
        label: Class (model id), -1 if unknown.
        year: Year, empty if unknown.
        viewpoint: Name of the viewpoint, such as ``front side``, empty if unknown.
    """

    make: str = ""
    model: str = ""
    label: int = UNKNOWN
    year: str = ""
    viewpoint: str = ""


@dataclass(frozen=True)
class Collection:
    """The record that all rows of a store share.

    Attributes:
        record: The record of the database that was published (``database.json``) with the key
            ``preparation``: the options of image_matrix that its images were prepared with.
    """

    record: dict[str, Any]

    @property
    def dim(self) -> int:
        return int(self.record["dim"])

    @property
    def checkpoint_sha256(self) -> str:
        return str(self.record["checkpoint_sha256"])

    def to_json(self) -> str:
        return json.dumps(self.record, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Collection":
        return cls(json.loads(text))

    def check_same(self, other: "Collection", name: str) -> None:
        """Refuse to mix embeddings of two models, or of images prepared in two ways.

        Args:
            other: What is to be added.
            name: Name of the store, for the message.
        """
        mine, others = self._encoding(), other._encoding()
        for key, ours in mine.items():
            theirs = others[key]
            if ours != theirs:
                raise InputError(
                    f"{name} holds embeddings with {key} {ours}, not {theirs}: they cannot be "
                    "compared; name another --store, or renew this one with process_data.publish"
                )

    def _encoding(self) -> dict[str, Any]:
        prepared = self.record.get("preparation") or {}
        own = {key: self.record.get(key) for key in ENCODING}
        return own | {key: prepared.get(key) for key in PREPARING}


def photo_id(sha256: str) -> int:
    """Return the id of an added photo: the first 52 bits of its hash, plus 2 ** 52.

    So the same photo gets the same id from every writer, without a counter that they share.

    >>> photo_id("00000000000ff" + 51 * "0") - FIRST_PHOTO_ID
    255
    """
    return FIRST_PHOTO_ID + int(sha256[:13], 16)


def next_id(number: int) -> int:
    """Return the id to try if another photo has this one: two of 10 million share 52 bits."""
    return FIRST_PHOTO_ID + (number + 1) % FIRST_PHOTO_ID


def check_new_rows(rows: Sequence[ImageRow], dim: int, name: str) -> np.ndarray:
    """Return the embeddings of new rows, (n, dim) float32; refuse what no search could rank."""
    wrong = [row.id for row in rows if row.embedding.shape != (dim,)]
    if wrong:
        raise InputError(
            f"{name} takes embeddings of {dim} dimensions; that of image {wrong[0]} has others"
        )
    embeddings = np.stack([row.embedding for row in rows]).astype(np.float32, copy=False)
    off = np.abs(np.einsum("ij,ij->i", embeddings, embeddings) - 1)
    bad = np.flatnonzero(~(off <= 2 * MOST_OFF_UNIT))  # NaN too
    if len(bad):
        raise InputError(
            f"{name} takes embeddings of unit norm; that of image {rows[bad[0]].id} is not"
        )
    ids = [row.id for row in rows]
    if len(set(ids)) < len(ids) or min(ids) < 0:
        raise InputError(f"ids to add to {name} must be distinct and at least 0")
    return embeddings


def sha256_of_bytes(content: bytes) -> str:
    """Return the SHA-256 of an image file's content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
