"""Encode images into the image database.

Reads   a checkpoint of train.py and an image matrix (--input), or an index csv and photos
        (--image_info)
Writes  database.npy, or the name given as --output, and a .json of the same stem that records the
        checkpoint and the images

    python build_image_db.py --dpath=~/ir/ --save_path=~/ir/para/model.ep0

Several processes, on one machine or more with a shared disk, write one file together:

    torchrun --nproc_per_node=2 build_image_db.py --dpath=~/ir/ --save_path=~/ir/para/model.ep0
"""

import argparse
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from retrieval import cli
from retrieval.compute.devices import Precision
from retrieval.data import layout, options, provenance
from retrieval.data.files import RowWriter
from retrieval.data.formats import InputError
from retrieval.data.joined import Images
from retrieval.data.photo_array import (
    USUAL_PHOTOS,
    IndexedPhotos,
    PhotoOptions,
    UnreadableImages,
)
from retrieval.model import checkpoint
from retrieval.model.model_config import Runtime, Tta

if TYPE_CHECKING:
    import torch

    from retrieval.model.embedding import EmbeddingModel
    from retrieval.model.runtime import RuntimeModel

log = logging.getLogger(__name__)


def run(
    data_dir: Path,
    save_path: Path,
    input: str = layout.IMAGE_MATRIX.name,
    output: str = layout.DATABASE.name,
    batch_size: int = 64,
    arch: str | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    tta: Tta = "none",
    scales: tuple[float, ...] = (1.0,),
    adapt_bn: bool = False,
    compile: bool = False,
    runtime: Runtime = "torch",
    image_info: str | None = None,
    photos: PhotoOptions = USUAL_PHOTOS,
) -> Path:
    """Write the embeddings of an image matrix, or of photos, and return their path.

    Args:
        data_dir: The data directory.
        save_path: The checkpoint; it holds the architecture and the preprocessing.
        input: Name of the image matrix.
        output: Name of the embeddings to write: (n_image, dim) float32, rows of unit L2 norm.
        batch_size: Images per batch.
        arch: Refused if the checkpoint has another architecture; None takes the checkpoint's.
        device: auto, cpu, cuda or cuda:n.
        precision: Dtype of the convolutions: ``devices.compute_dtype``.
        tta: ``flip`` averages the embeddings of each image and of its mirror image.
        scales: Averages the embeddings at these multiples of the model's side.
        adapt_bn: Estimate the batch norm statistics from these images. No label is used, but
            each embedding then depends on all images of the matrix.
        compile: Compile the network first; takes minutes, pays off for many images.
        runtime: What runs the network: torch, or a runtime that may be faster on a CPU.
        image_info: Index csv of photos to encode without a matrix; ``input`` is then left alone.
        photos: Where these are, and how they become squares.
    """
    options.check(photos)
    if batch_size < 1:
        raise InputError(f"--batch_size must be at least 1; got {batch_size}")
    if runtime != "torch" and (compile or tuple(scales) != (1.0,)):
        raise InputError(f"--runtime={runtime} takes neither --scales nor --compile")
    path = layout.DATABASE.target(data_dir, output)
    provenance.record_target(data_dir, output)
    if os.path.realpath(path) == os.path.realpath(layout.IMAGE_MATRIX.at(data_dir, input)):
        raise InputError(f"--input and --output are both {output}; choose another --output")
    save_path = save_path.expanduser()
    how = Encoding(
        batch_size, arch, device, precision, tta, tuple(scales), adapt_bn, compile, runtime
    )
    if image_info is None:
        record = provenance.load_record(data_dir, input, layout.IMAGE_MATRIX)
        source = Source(layout.IMAGE_MATRIX.load(data_dir, input), input, input, record)
        return _encode(data_dir, save_path, source, output, how)
    indexed = IndexedPhotos.open(data_dir, image_info, photos)
    try:
        return _encode(data_dir, save_path, Source.of_photos(indexed), output, how)
    except UnreadableImages:
        source = Source.of_photos(indexed.readable())
    return _encode(data_dir, save_path, source, output, how)


@dataclass(frozen=True)
class Encoding:
    """How images are encoded: the options of ``run``."""

    batch_size: int
    arch: str | None
    device: str
    precision: Precision
    tta: Tta
    scales: tuple[float, ...]
    adapt_bn: bool
    compile: bool
    runtime: Runtime


@dataclass(frozen=True)
class Source:
    """Images to encode.

    Attributes:
        images: (n_image, 3, side, side) uint8.
        name: What to call them.
        matrix: Name of their matrix; None if they are decoded from photos.
        record: Their origin and preparation; None if a matrix has no record.
    """

    images: Images
    name: str
    matrix: str | None
    record: dict[str, Any] | None

    @classmethod
    def of_photos(cls, photos: IndexedPhotos) -> "Source":
        return cls(photos.images, photos.image_info, None, photos.record())


def _encode(data_dir: Path, save_path: Path, source: Source, output: str, how: Encoding) -> Path:
    """Write the embeddings of some images and their record; return the path of the former."""
    checkpoint.check_exists(save_path)
    # What can be checked at once is checked before torch is imported, which takes seconds.
    from retrieval.compute import devices, distributed
    from retrieval.model import bn_adaptation
    from retrieval.model.embedding import compile_backbone, put_on
    from retrieval.model.encode import embedding_blocks
    from retrieval.model.tta import Views

    views, images, path = (
        Views(how.tta, how.scales),
        source.images,
        layout.DATABASE.at(data_dir, output),
    )
    content = checkpoint.load(save_path)
    is_torch, batch_size = how.runtime == "torch", how.batch_size
    place = devices.choose("cpu" if not is_torch and how.device == "auto" else how.device)
    if not is_torch:
        _check_runtime(how.runtime, place, images.shape[-1], content["model"]["side"])
    with distributed.process_group(place) as place:
        dtype = distributed.agreed_dtype(devices.compute_dtype(place, how.precision))
        model = put_on(checkpoint.build_model(content, save_path, how.arch), place)
        if how.compile:
            compile_backbone(model)
        if images.shape[-1] != model.config.side:
            log.info("images of %d px are scaled to %d px", images.shape[-1], model.config.side)
        if how.adapt_bn:
            if content["frozen_norms"]:
                log.warning("batch norms were frozen in training: --adapt_bn may ruin the model")
            bn_adaptation.adapt_batch_norm(model, images, batch_size, source.name)
        embedder = model if is_torch else _in_runtime(model, how.runtime, dtype)
        rows = np.array(distributed.own_part(len(images), batch_size), np.int64)
        blocks = embedding_blocks(embedder, images, rows, batch_size, dtype, output, views)
        shape = (len(images), model.config.dim)
        with distributed.row_writer(path, shape, layout.DATABASE.dtype) as database:
            digest = _write(database, rows, blocks, save_path)
        parts = distributed.gather(np.array(digest.hexdigest()))
        is_main = distributed.is_main()
    if is_main:
        record = {
            "checkpoint": str(save_path),
            "checkpoint_sha256": provenance.sha256(save_path),
            "epoch": content["epoch"],
            "weights": content["weights"],
            "domains": content["domains"],
            "split": content["split"],
            "held_out": content["held_out"],
            "images": source.matrix,
            "index_sha256": (source.record or {}).get("index_sha256"),
            "preparation": provenance.preparation_of(source.record),
            "images_sha256": provenance.RowsDigest.of_parts(parts).hexdigest(),
            "rows": len(images),
            "dim": model.config.dim,
            "batch_size": batch_size,
            "runtime": how.runtime,
            "precision": str(dtype).removeprefix("torch."),
            "tta": how.tta,
            "scales": list(views.scales),
            "adapt_bn": how.adapt_bn,
        }
        provenance.save_record(data_dir, output, record)
    log.info("%s: %d embeddings of %d dimensions", path, len(images), model.config.dim)
    return path


def _check_runtime(runtime: Runtime, place: "torch.device", image_side: int, side: int) -> None:
    """Refuse a GPU, and images of another side than the model's."""
    if place.type != "cpu":
        raise InputError(f"--runtime={runtime} computes on the CPU; leave --device out")
    if image_side != side:
        raise InputError(
            f"--runtime={runtime} takes images of {side} px, not {image_side}; make them "
            f"with: python -m process_data.image_matrix --image_resolution={side}"
        )


def _in_runtime(model: "EmbeddingModel", runtime: Runtime, dtype: "torch.dtype") -> "RuntimeModel":
    """Return the model in another runtime."""
    from retrieval.model.runtime import RuntimeModel

    return RuntimeModel(model.eval(), runtime, dtype)


def _write(
    database: RowWriter,
    rows: np.ndarray,
    blocks: Iterable[tuple[np.ndarray, np.ndarray]],
    save_path: Path,
) -> provenance.RowsDigest:
    """Write the embeddings of consecutive rows; return the hash of their images."""
    digest = provenance.RowsDigest()
    done = 0
    for images, embeddings in blocks:
        if not np.isfinite(embeddings).all():
            raise InputError(
                f"{save_path} gives embeddings that are not finite; take an earlier epoch, or "
                "try --precision=float32"
            )
        first = int(rows[done])
        digest.add(first, images)
        database.write(first, embeddings)
        done += len(embeddings)
    return digest


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    parser.add_argument(
        "--save_path", type=cli.user_path, required=True, help="the checkpoint, a file"
    )
    parser.add_argument("--input", help="name of the image matrix")
    parser.add_argument(
        "--image_info", help="index csv of photos to encode without a matrix, instead of --input"
    )
    options.add_arguments(parser, PhotoOptions, "photos, with --image_info")
    parser.add_argument("--output", help="name of the embeddings to write")
    parser.add_argument("--batch_size", type=int, help="images per batch")
    parser.add_argument("--arch", help="refused if the checkpoint has another one")
    parser.add_argument("--tta", choices=get_args(Tta), help="flip: average with the mirror image")
    parser.add_argument(
        "--scales",
        type=cli.numbers,
        help="average over these multiples of the side, as in 1,0.7071",
    )
    parser.add_argument(
        "--adapt_bn",
        action="store_true",
        help="estimate the batch norm statistics from these images",
    )
    cli.add_compute_arguments(parser)
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="compile the network first; takes minutes, pays off for many images",
    )
    parser.add_argument(
        "--runtime",
        choices=get_args(Runtime),
        help="what runs the network; others than torch: on a CPU",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
