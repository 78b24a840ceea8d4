"""The job of encoding a database in shards, here or on another machine."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from retrieval.data import layout, provenance
from retrieval.data.decoded_photos import IndexedPhotos, PhotoOptions
from retrieval.data.files import RowWriter
from retrieval.data.formats import InputError
from retrieval.data.shards import Shards
from retrieval.model.database_encoder import (
    DatabaseEncoder,
    EncodingOptions,
    Source,
    encoding_device,
)


@dataclass(frozen=True)
class EncodingJob:
    """The embeddings of an image matrix, or of photos, written in shards.

    Attributes:
        data_dir: The data directory.
        save_path: The checkpoint.
        input: Name of the image matrix.
        output: Name of the embeddings.
        image_info: Index csv of photos to encode instead of a matrix, or None.
        photos: How these become squares.
        how: How images are encoded.
        shards: Number of parts.
    """

    data_dir: Path
    save_path: Path
    input: str
    output: str
    image_info: str | None
    photos: PhotoOptions
    how: EncodingOptions
    shards: int

    @property
    def uses_gpu(self) -> bool:
        """Whether a GPU helps."""
        return self.how.runtime == "torch" and self.how.device != "cpu"

    @property
    def target(self) -> Path:
        """The file of all embeddings."""
        return layout.DATABASE.at(self.data_dir, self.output)

    @cached_property
    def encoder(self) -> DatabaseEncoder:
        """The checkpoint, loaded when it is first asked for."""
        if self.image_info is None:
            source = Source.of_matrix(self.data_dir, self.input)
        else:
            indexed = IndexedPhotos.open(self.data_dir, self.image_info, self.photos)
            source = Source.of_photos(indexed)
        return DatabaseEncoder(self.save_path, source, self.how, encoding_device(self.how))

    def on_node(self, count: int) -> "EncodingJob":
        """Return the job with ``count`` decoding threads, unless the user chose a number."""
        photos = replace(self.photos, workers=self.photos.workers or count)
        data_dir, save_path = self.data_dir.absolute(), self.save_path.absolute()
        return replace(self, data_dir=data_dir, save_path=save_path, photos=photos)

    @cached_property
    def plan(self) -> Shards:
        """The shards, and whether the whole database is there."""
        shape = (len(self.encoder.source.images), self.encoder.dim)
        dtype, multiple = layout.DATABASE.dtype, self.how.batch_size
        whole = Shards(self.target, shape, dtype, self.shards, self.encoder.record(), multiple)
        return replace(whole, is_done=self._is_done(whole.origin))

    def _is_done(self, origin: str) -> bool:
        """Return whether the embeddings are there, whole, and of the same origin."""
        try:
            record = provenance.load_record(self.data_dir, self.output) or {}
        except InputError:
            return False
        return record.get("made_from") == origin

    def make(self, number: int) -> None:
        """Make one shard."""
        self.plan.make_one(self.write, number)

    def write(self, part: RowWriter, rows: range) -> str:
        """Write the embeddings of some rows; return the hash of their images."""
        return self.encoder.write(rows, part, rows.start, f"shards of {self.output}")
