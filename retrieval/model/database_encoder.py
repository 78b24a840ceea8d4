"""The encoder of build_image_db.py: model, runtime and options."""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.compute.devices import Precision
from retrieval.data import layout, provenance, sources
from retrieval.data.decoded_photos import IndexedPhotos
from retrieval.data.files import RowWriter
from retrieval.data.formats import InputError
from retrieval.data.images import Images
from retrieval.model import checkpoint
from retrieval.model.model_config import Runtime, Tta

if TYPE_CHECKING:
    import torch

    from retrieval.model.tta import Views

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodingOptions:
    """How images are encoded: options of build_image_db.py.

    Without ``tta`` or ``scales``, those that the checkpoint recommends apply.
    """

    batch_size: int
    arch: str | None
    device: str
    precision: Precision
    tta: Tta | None
    scales: tuple[float, ...] | None
    adapt_bn: bool
    compile: bool
    runtime: Runtime


def encoding_device(how: EncodingOptions) -> "torch.device":
    """Return the device that encodes; runtimes other than torch take the CPU."""
    from retrieval.compute import devices

    needs_cpu = how.runtime not in ("auto", "torch")
    return devices.choose("cpu" if needs_cpu and how.device == "auto" else how.device)


@dataclass(frozen=True)
class Source:
    """Images to encode.

    Attributes:
        images: (n_image, 3, side, side) uint8.
        name: Their file: a matrix, or the csv that lists photos.
        matrix: Name of their matrix; None if they are decoded from photos.
        record: Their origin and preparation; None if a matrix has no record.
    """

    images: Images
    name: str
    matrix: str | None
    record: dict[str, Any] | None

    @classmethod
    def of_matrix(cls, data_dir: Path, name: str) -> "Source":
        """Return the images of a matrix."""
        record = provenance.load_record(data_dir, name, layout.IMAGE_MATRIX)
        return cls(layout.IMAGE_MATRIX.load(data_dir, name), name, name, record)

    def origin(self) -> dict[str, Any]:
        """Return the part of a record that says which files the images come from (`sources`)."""
        record = self.record or {}
        if self.matrix is None:
            return {name: record[name] for name in ("sources", sources.PHOTOS)}
        content = record.get("content") or provenance.fingerprint(np.asarray(self.images))
        return {"sources": {self.matrix: content}}

    @classmethod
    def of_photos(cls, photos: IndexedPhotos) -> "Source":
        """Return the squares of photos, which are decoded when they are read."""
        return cls(photos.images, photos.image_info, None, photos.record())


class DatabaseEncoder:
    """A checkpoint, loaded to encode some images.

    Attributes:
        dim: Length of an embedding.
    """

    def __init__(
        self, save_path: Path, source: Source, how: EncodingOptions, device: "torch.device"
    ) -> None:
        """Load the checkpoint, and prepare the model for these images.

        Raises:
            InputError: The checkpoint or the options do not fit.
        """
        from retrieval.compute import devices, distributed
        from retrieval.model import bn_adaptation
        from retrieval.model.embedding import compile_backbone, put_on
        from retrieval.model.runtime import Embedder, RuntimeModel, fastest
        from retrieval.model.tta import Views

        self.save_path, self.source, self._device = save_path, source, device
        self._content = checkpoint.load(save_path)
        tta, scales = checkpoint.recommended_views(self._content)
        self._views = Views(how.tta or tta, how.scales or scales)
        how = replace(how, tta=self._views.tta, scales=self._views.scales)
        side, runtime = source.images.shape[-1], how.runtime
        if runtime == "auto" and not _may_choose(how, device, source, self._views):
            runtime = "torch"
        if runtime not in ("auto", "torch") and device.type != "cpu":
            raise InputError(f"--runtime={runtime} computes on the CPU; leave --device out")
        self.dtype = distributed.agreed_dtype(devices.compute_dtype(device, how.precision))
        model = put_on(checkpoint.build_model(self._content, save_path, how.arch), device)
        self.dim = model.config.dim
        if how.compile:
            compile_backbone(model)
        if side != model.config.side:
            log.info("images of %d px are scaled to %d px", side, model.config.side)
        if how.adapt_bn:
            if self._content["frozen_norms"]:
                log.warning("batch norms were frozen in training: --adapt_bn may ruin the model")
            bn_adaptation.adapt_batch_norm(model, source.images, how.batch_size, source.name)
        self._embedder: Embedder = model.eval()
        if runtime == "auto":
            runtime, self._embedder = fastest(model, self.dtype, self._views, side)
        elif runtime != "torch":
            self._embedder = RuntimeModel(model, runtime, self.dtype, self._views, side)
        self.how = replace(how, runtime=runtime)

    def write(self, rows: range, out: RowWriter, first: int, title: str) -> str:
        """Write the embeddings of some rows; return the hash of their images, in hexadecimal.

        Args:
            rows: Rows of the images.
            out: Gets the embeddings.
            first: The row of the images that is row 0 of ``out``.
            title: Title of the progress bar.
        """
        digest = provenance.RowsDigest()
        done = rows.start
        for images, embeddings in self._blocks(rows, title):
            if not np.isfinite(embeddings).all():
                raise InputError(
                    f"{self.save_path} gives embeddings that are not finite; take an earlier "
                    "epoch, or try --precision=float32"
                )
            digest.add(done, images)
            out.write(done - first, embeddings)
            done += len(embeddings)
        return digest.hexdigest()

    def _blocks(self, rows: range, title: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        from retrieval.model.encode import embedding_blocks

        numbers = np.array(rows, np.int64)
        images, batch_size = self.source.images, self.how.batch_size
        return embedding_blocks(
            self._embedder, images, numbers, batch_size, self.dtype, title, self._views
        )

    def record(self) -> dict[str, Any]:
        """Return the record of the embeddings, but for the hash of the images."""
        content, how = self._content, asdict(self.how)
        kept = ("batch_size", "runtime", "tta", "adapt_bn")
        return {
            "checkpoint": str(self.save_path),
            "checkpoint_sha256": provenance.sha256(self.save_path),
            **{name: content[name] for name in ("epoch", "weights", "domains", "split")},
            "held_out": content["held_out"],
            "images": self.source.matrix,
            "index_sha256": (self.source.record or {}).get("index_sha256"),
            "preparation": provenance.preparation_of(self.source.record),
            **self.source.origin(),
            "rows": len(self.source.images),
            "dim": self.dim,
            **{name: how[name] for name in kept},
            "precision": str(self.dtype).removeprefix("torch."),
            "scales": list(self._views.scales),
            "threads": self._threads(),
        }

    def _threads(self) -> int:
        """Return how many threads share an image, on which its last bits depend.

        torch's embeddings of a CPU are computed by one each (pieces.py); the statistics of
        --adapt_bn and other runtimes by all.
        """
        import torch

        is_shared = self.how.adapt_bn or self.how.runtime != "torch"
        return torch.get_num_threads() if is_shared and self._device.type == "cpu" else 1


def _may_choose(
    how: EncodingOptions, place: "torch.device", source: Source, views: "Views"
) -> bool:
    """Return whether --runtime=auto may take another runtime than torch, and it would pay off.

    Several processes take torch, as each might choose another one.
    """
    from retrieval.compute import distributed
    from retrieval.model.runtime import MANY_IMAGES

    return (
        place.type == "cpu"
        and len(source.images) * views.cost >= MANY_IMAGES
        and not how.compile
        and distributed.size() == 1
    )
