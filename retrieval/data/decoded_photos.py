"""The photos of an index as one array of squares, decoded when they are read.

Any row can be read at any time, as from an image matrix on disk, with the same bytes. Threads
decode the rows of a block in parallel.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from tqdm import tqdm

from retrieval.data import decode, image_index, layout, provenance, sources
from retrieval.data.formats import InputError
from retrieval.data.options import option
from retrieval.data.pixel_budget import MEGAPIXELS, PixelBudget
from retrieval.threads import worker_threads

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

Crop = Literal["none", "box"]
OnUnreadable = Literal["stop", "drop"]

LARGEST_SIDE = 16_384  # pixels: a photo then takes 800 MB
BLOCK = 256  # photos in flight; bounds the memory
CORNERS = ["X1", "Y1", "X2", "Y2"]


@dataclass(frozen=True)
class PhotoOptions:
    """Location of the photos of an index, and how they are turned into squares.

    The descriptions are in the declarations.
    """

    image_root_path: str = option(
        "Image_data/data/image/", "folder of the images, relative to --dpath"
    )
    image_resolution: int = option(
        224, "side of the squares in pixels", at_least=1, at_most=LARGEST_SIDE
    )
    filter_type: decode.Fill = option("Gaussian", "fill of the borders")
    crop: Crop = option("none", "box: crop to the boxes of the csv; images without one stay whole")
    on_unreadable: OnUnreadable = option(
        "stop", "unreadable images: stop and list them, or drop them and write the matching csv"
    )
    workers: int = option(0, "threads that decode; 0: as --threads", at_least=0)
    max_megapixels: int = option(
        MEGAPIXELS,
        "largest photo, and all photos decoded at once, in millions of decoded pixels",
        at_least=1,
    )


USUAL_PHOTOS = PhotoOptions()


class UnreadableImages(Exception):
    """Some images cannot be read.

    Attributes:
        reasons: Row -> error message, in row order.
    """

    def __init__(self, reasons: dict[int, str]) -> None:
        super().__init__(f"{len(reasons)} images cannot be read")
        self.reasons = reasons


@dataclass(frozen=True)
class DecodedPhotos:
    """Squares of photos: (n_image, 3, side, side) uint8, RGB.

    Attributes:
        paths: The files, one per row.
        boxes: What to crop each to; None: the whole photo.
        options: How they become squares.
    """

    paths: Sequence[Path]
    boxes: Sequence[decode.Box | None]
    options: PhotoOptions

    dtype = np.dtype(np.uint8)

    @cached_property
    def _budget(self) -> PixelBudget:
        return PixelBudget(self.options.max_megapixels)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.options.workers or worker_threads(), "decode")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the whole array."""
        side = self.options.image_resolution
        return len(self.paths), 3, side, side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return rows by their numbers, (n,) int64.

        Raises:
            UnreadableImages: With those of these rows that cannot be read.
        """
        reasons: dict[int, str] = {}
        squares = np.zeros((len(rows), *self.shape[1:]), np.uint8)

        def fill(place: int) -> None:
            row, options = int(rows[place]), self.options
            side, borders = options.image_resolution, options.filter_type
            try:
                square = decode.load_square(
                    self.paths[row], side, borders, self.boxes[row], self._budget
                )
            except decode.UnreadableImage as error:
                reasons[row] = str(error)
            else:
                squares[place] = square.transpose(2, 0, 1)

        list(self._pool.map(fill, range(len(rows))))
        if reasons:
            raise UnreadableImages(dict(sorted(reasons.items())))
        return squares

    def unreadable(self, title: str) -> dict[int, str]:
        """Try all photos; return the reasons of those that cannot be read, by row."""
        reasons: dict[int, str] = {}
        with tqdm(total=len(self), desc=title, unit="image", disable=None) as bar:
            for start in range(0, len(self), BLOCK):
                rows = np.arange(start, min(start + BLOCK, len(self)))
                try:
                    self[rows]
                except UnreadableImages as error:
                    reasons |= error.reasons
                bar.update(len(rows))
        return reasons

    def without(self, rows: Sequence[int]) -> "DecodedPhotos":
        """Return the array without some rows."""
        kept = np.setdiff1d(np.arange(len(self)), rows).tolist()
        return replace(
            self, paths=[self.paths[i] for i in kept], boxes=[self.boxes[i] for i in kept]
        )


@dataclass(frozen=True)
class IndexedPhotos:
    """The photos of an index csv.

    Attributes:
        data_dir: The data directory.
        image_info: Name of the csv.
        table: Its rows, in the order of Index.
        images: The photos, in the same order.
    """

    data_dir: Path
    image_info: str
    table: "pd.DataFrame"
    images: DecodedPhotos

    @classmethod
    def of_record(cls, data_dir: Path, preparation: dict[str, Any]) -> "IndexedPhotos":
        """Return the photos that a record of embeddings names (``provenance.preparation_of``)."""
        more = {f.name: preparation[f.name] for f in fields(PhotoOptions) if f.name in preparation}
        return cls.open(data_dir, preparation["index"], PhotoOptions(**more))

    @classmethod
    def open(cls, data_dir: Path, image_info: str, options: PhotoOptions) -> "IndexedPhotos":
        """Read the csv; no photo is opened yet.

        Raises:
            InputError: The csv or the folder is missing, or the csv has no such boxes.
        """
        table = image_index.by_index(layout.IMAGE_INDEX.load(data_dir, image_info), image_info)
        root = data_dir / Path(options.image_root_path).expanduser()
        if not root.is_dir():
            raise InputError(
                f"{root} is not a folder; --image_root_path must name the folder of the images"
            )
        boxes: Sequence[decode.Box | None] | None = [None] * len(table)
        if options.crop == "box":
            boxes = boxes_of(table, image_info)
        if boxes is None:
            raise InputError(f"{image_info} has no columns X1, Y1, X2, Y2; use --crop=none")
        paths = [root / path for path in table["Path"]]
        return cls(data_dir, image_info, table, DecodedPhotos(paths, boxes, options))

    def record(self) -> dict[str, Any]:
        """Return the part of an array's record that describes these photos, as they are now.

        Call it before the photos are read: what changes meanwhile then counts as a change.
        """
        options = self.images.options
        columns = ("Index", "Path", *(CORNERS if options.crop == "box" else ()))
        return {
            "index": self.image_info,
            "image_root_path": options.image_root_path,
            "index_sha256": provenance.index_hash(self.table),
            "image_resolution": options.image_resolution,
            "filter_type": options.filter_type,
            "crop": options.crop,
            "sources": sources.states(self.data_dir, self.image_info, columns=columns),
            sources.PHOTOS: sources.photo_states(self.images.paths),
        }

    def readable(self, made_by: str = "", options: dict[str, Any] | None = None) -> "IndexedPhotos":
        """Return the photos without the unreadable ones, and write the csv of those that stay.

        Args:
            made_by: The beginning of the command that asks, for the record of the csv; empty: no
                record.
            options: Its options.

        Raises:
            InputError: ``on_unreadable`` is ``stop``, or no photo can be read.
        """
        reasons = self.images.unreadable(f"check {self.image_info}")
        for row, reason in reasons.items():
            log.warning("cannot be read: %s (%s)", self.images.paths[row], reason)
        if self.images.options.on_unreadable == "stop":
            raise InputError(
                f"{len(reasons)} of {len(self.images)} images of {self.image_info} cannot be read "
                "(listed above), nothing was written; restore them, raise --max_megapixels if they "
                "are too large, or use --on_unreadable=drop"
            )
        kept = self.table.drop(index=list(reasons)).reset_index(drop=True)
        if kept.empty:
            raise InputError(f"no image of {self.image_info} can be read; check --image_root_path")
        kept = kept.assign(Index=np.arange(len(kept)))
        name = f"{Path(self.image_info).stem}.kept.csv"
        path = layout.IMAGE_INDEX.save(self.data_dir, kept, name)
        if made_by:
            origins = sources.states(self.data_dir, self.image_info)
            sources.save_list_record(self.data_dir, path, made_by, options or {}, origins)
        log.warning(
            "%s lists the %d images kept, with new Indexes: use it from now on "
            "(make_train_valid --iname=%s, or mask_data --tindex=%s)",
            path,
            len(kept),
            name,
            name,
        )
        return IndexedPhotos(self.data_dir, name, kept, self.images.without(list(reasons)))


def boxes_of(table: "pd.DataFrame", name: str) -> list[decode.Box | None] | None:
    """Return the box of each row of an index; None if it has no such columns.

    Args:
        table: The index; rows with an empty corner have no box.
        name: Its file, for messages.

    Raises:
        InputError: A corner is text or infinite.
    """
    if not set(CORNERS) <= set(table.columns):
        return None
    try:
        values = table[CORNERS].to_numpy(np.float64)
    except ValueError as error:
        raise InputError(
            f"{name}: a column of {', '.join(CORNERS)} holds text ({error}); numbers are as in 12.5"
        ) from None
    if np.isinf(values).any():
        line = int(np.flatnonzero(np.isinf(values).any(axis=1))[0]) + 2
        raise InputError(f"{name}: the box in line {line} is infinite; correct or empty it")
    return [None if np.isnan(box).any() else (box[0], box[1], box[2], box[3]) for box in values]
