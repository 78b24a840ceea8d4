"""Encode an image matrix into the image database.

Reads   a checkpoint of train.py and an image matrix (--input)
Writes  database.npy, or the name given as --output, and a .json of the same stem that says which
        checkpoint and which images it was made from

    python build_image_db.py --dpath=~/ir/ --save_path=~/ir/para/model.ep0

Several processes, of one machine or more with a common disk, write one file together:

    torchrun --nproc_per_node=2 build_image_db.py --dpath=~/ir/ --save_path=~/ir/para/model.ep0
"""

import argparse
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from retrieval import cli
from retrieval.compute import devices, distributed
from retrieval.data import layout, provenance
from retrieval.data.files import RowWriter
from retrieval.data.formats import InputError
from retrieval.model import bn_adaptation, checkpoint
from retrieval.model.embedding import EmbeddingModel, compile_backbone, put_on
from retrieval.model.encode import embedding_blocks
from retrieval.model.runtime import Runtime, RuntimeModel
from retrieval.model.tta import Tta, Views

log = logging.getLogger(__name__)


def run(
    data_dir: Path,
    save_path: Path,
    input: str = layout.IMAGE_MATRIX.name,
    output: str = layout.DATABASE.name,
    batch_size: int = 64,
    arch: str | None = None,
    device: str = "auto",
    precision: devices.Precision = "auto",
    tta: Tta = "none",
    scales: tuple[float, ...] = (1.0,),
    adapt_bn: bool = False,
    compile: bool = False,
    runtime: Runtime = "torch",
) -> Path:
    """Write the embeddings of an image matrix, row by row, and return their path.

    Args:
        data_dir: The data directory.
        save_path: The checkpoint, which says all about the architecture and the preprocessing.
        input: Name of the image matrix.
        output: Name of the embeddings: (n_image, dim) float32, rows of unit L2 norm.
        batch_size: Images at once.
        arch: Checked against the checkpoint where it is given.
        device: auto, cpu, cuda or cuda:n.
        precision: Of the convolutions: ``devices.compute_dtype``.
        tta: ``flip`` takes the mean of each image's embedding and its mirror image's.
        scales: The mean over these multiples of the model's side.
        adapt_bn: Normalize by the statistics of these images rather than the training images'.
            No label is used, but each embedding depends on all images of the matrix.
        compile: Compile the network first, which takes minutes; for very many images.
        runtime: What computes: torch, or on a CPU another program, which may be faster.
    """
    if batch_size < 1:
        raise InputError(f"--batch_size must be at least 1; got {batch_size}")
    views = Views(tta, tuple(scales))
    if runtime != "torch" and (compile or views.scales != (1.0,)):
        raise InputError(f"--runtime={runtime} takes neither --scales nor --compile")
    matrix = layout.IMAGE_MATRIX.load(data_dir, input)
    save_path = save_path.expanduser()
    content = checkpoint.load(save_path)
    path = layout.DATABASE.at(data_dir, output)
    place = devices.choose("cpu" if runtime != "torch" and device == "auto" else device)
    with distributed.process_group(place) as place:
        dtype = distributed.agreed_dtype(devices.compute_dtype(place, precision))
        model = put_on(checkpoint.build_model(content, save_path, arch), place)
        if compile:
            compile_backbone(model)
        if matrix.shape[-1] != model.config.side:
            log.info("images of %d px are scaled to %d px", matrix.shape[-1], model.config.side)
        if adapt_bn:
            if content.get("frozen_norms"):
                log.warning("its batch norms were frozen in training: --adapt_bn may ruin it")
            bn_adaptation.adapt_batch_norm(model, matrix, batch_size, input)
        embedder = (
            model if runtime == "torch" else _compiled(model, matrix.shape[-1], runtime, dtype)
        )
        rows = np.array(distributed.own_part(len(matrix), batch_size), np.int64)
        blocks = embedding_blocks(embedder, matrix, rows, batch_size, dtype, output, views)
        shape = (len(matrix), model.config.dim)
        with distributed.row_writer(path, shape, layout.DATABASE.dtype) as database:
            digest = _write(database, rows, blocks, save_path)
        parts = distributed.gather(np.array(digest.hexdigest()))
        is_main = distributed.is_main()
    if is_main:
        record = {
            "checkpoint": str(save_path),
            "checkpoint_sha256": provenance.sha256(save_path),
            "epoch": content["epoch"],
            "images": input,
            "images_sha256": provenance.RowsDigest.of_parts(parts).hexdigest(),
            "rows": len(matrix),
            "dim": model.config.dim,
            "batch_size": batch_size,
            "runtime": runtime,
            "precision": str(dtype).removeprefix("torch."),
            "tta": tta,
            "scales": list(views.scales),
            "adapt_bn": adapt_bn,
        }
        provenance.save_record(data_dir, output, record)
    log.info("%s: %d embeddings of %d dimensions", path, len(matrix), model.config.dim)
    return path


def _compiled(
    model: EmbeddingModel, given: int, runtime: Runtime, dtype: torch.dtype
) -> RuntimeModel:
    """Return the model as another program runs it, for images of ``given`` px."""
    side = model.config.side
    if model.mean.is_cuda:
        raise InputError(f"--runtime={runtime} computes on the CPU; leave --device out")
    if given != side:
        raise InputError(
            f"--runtime={runtime} takes images of {side} px, not {given}; make them "
            f"with: python -m process_data.image_matrix --image_resolution={side}"
        )
    return RuntimeModel(model.eval(), runtime, dtype)


def _write(
    database: RowWriter,
    rows: np.ndarray,
    blocks: Iterable[tuple[np.ndarray, np.ndarray]],
    save_path: Path,
) -> provenance.RowsDigest:
    """Write the embeddings of consecutive rows, and return the hash of their images."""
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
    parser.add_argument("--output", help="name of the embeddings to write")
    parser.add_argument("--batch_size", type=int, help="images at once")
    parser.add_argument("--arch", help="checked against the checkpoint; may be left out")
    parser.add_argument("--tta", choices=get_args(Tta), help="flip: embed the mirror image too")
    parser.add_argument(
        "--scales", type=cli.numbers, help="embed at these multiples of the side, as in 1,0.7071"
    )
    parser.add_argument(
        "--adapt_bn",
        action="store_true",
        help="normalize by the statistics of these images rather than the training images'",
    )
    cli.add_compute_arguments(parser)
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="compile the network first: for very many images",
    )
    parser.add_argument(
        "--runtime", choices=get_args(Runtime), help="what computes; others than torch on a CPU"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
