"""The job of writing an image matrix in shards, here or on another machine."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from retrieval.data import files, layout, provenance
from retrieval.data.decoded_photos import BLOCK, DecodedPhotos, IndexedPhotos, PhotoOptions
from retrieval.data.formats import InputError
from retrieval.data.shards import Shards


@dataclass(frozen=True)
class MatrixJob:
    """The squares of an index, written in shards.

    Attributes:
        data_dir: The data directory.
        mname: Name of the matrix.
        image_info: Index csv.
        photos: How photos become squares.
        shards: Number of parts.
    """

    data_dir: Path
    mname: str
    image_info: str
    photos: PhotoOptions
    shards: int

    uses_gpu = False

    @property
    def target(self) -> Path:
        """The file of the whole matrix."""
        return layout.IMAGE_MATRIX.at(self.data_dir, self.mname)

    @cached_property
    def indexed(self) -> IndexedPhotos:
        """The photos, opened when they are first asked for."""
        return IndexedPhotos.open(self.data_dir, self.image_info, self.photos)

    def on_node(self, count: int) -> "MatrixJob":
        """Return the job with ``count`` threads, unless the user chose another number."""
        photos = replace(self.photos, workers=self.photos.workers or count)
        return replace(self, data_dir=self.data_dir.absolute(), photos=photos)

    @cached_property
    def plan(self) -> Shards:
        """The shards, and whether the matrix is there."""
        record, images = self.indexed.record(), self.indexed.images
        try:
            found = provenance.load_record(self.data_dir, self.mname, layout.IMAGE_MATRIX)
        except InputError:
            found = None
        is_done = found is not None and record.items() <= found.items()
        return Shards(self.target, images.shape, "uint8", self.shards, record, is_done=is_done)

    def make(self, number: int) -> None:
        """Make one shard."""
        self.plan.make_one(self.write, number)

    def write(self, part: files.RowWriter, rows: range) -> str:
        """Write the squares of some rows; they need no hash."""
        write_squares(part, self.indexed.images, rows, f"shards of {self.mname}")
        return ""


def write_squares(out: files.RowWriter, images: DecodedPhotos, rows: range, title: str) -> None:
    """Write some squares, decoded in parallel; the first of them is row 0 of the file.

    Raises:
        UnreadableImages: Some cannot be read.
    """
    with tqdm(total=len(rows), desc=title, unit="image", disable=None) as bar:
        for start in range(rows.start, rows.stop, BLOCK):
            block = np.arange(start, min(start + BLOCK, rows.stop))
            out.write(start - rows.start, images[block])
            bar.update(len(block))
