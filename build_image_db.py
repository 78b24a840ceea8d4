"""Encode an image matrix into the image database.

Reads   a checkpoint of train.py and an image matrix (--input)
Writes  database.npy, or the name given as --output, and a .json of the same stem that says which
        checkpoint and which images it was made from

    python build_image_db.py --dpath=~/ir/ --save_path=~/ir/para/model.ep0
"""

import argparse
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retrieval import checkpoint, cli, devices, files, layout, provenance
from retrieval.encode import embedding_blocks
from retrieval.formats import InputError

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
        precision: Of the convolutions; auto takes bfloat16 where the processor has it.
    """
    if batch_size < 1:
        raise InputError(f"--batch_size must be at least 1; got {batch_size}")
    matrix = layout.IMAGE_MATRIX.load(data_dir, input)
    save_path = save_path.expanduser()
    content = checkpoint.load(save_path)
    place = devices.choose(device)
    dtype = devices.compute_dtype(place, precision)
    model = checkpoint.build_model(content, save_path, arch).to(place)
    if matrix.shape[-1] != model.config.side:
        log.info("images of %d px are scaled to %d px", matrix.shape[-1], model.config.side)

    path = layout.DATABASE.at(data_dir, output)
    digest = hashlib.sha256()
    row = 0
    with files.row_writer(path, (len(matrix), model.config.dim), layout.DATABASE.dtype) as database:
        rows = np.arange(len(matrix))
        for images, embeddings in embedding_blocks(model, matrix, rows, batch_size, dtype, output):
            if not np.isfinite(embeddings).all():
                raise InputError(
                    f"{save_path} gives embeddings that are not finite; take an earlier epoch, or "
                    "try --precision=float32"
                )
            digest.update(images.tobytes())
            database.write(row, embeddings)
            row += len(embeddings)
    record = {
        "checkpoint": str(save_path),
        "checkpoint_sha256": provenance.sha256(save_path),
        "epoch": content["epoch"],
        "images": input,
        "images_sha256": digest.hexdigest(),
        "rows": len(matrix),
        "dim": model.config.dim,
        "precision": str(dtype).removeprefix("torch."),
    }
    provenance.save(data_dir, output, record)
    log.info("%s: %d embeddings of %d dimensions", path, len(matrix), model.config.dim)
    return path


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    parser.add_argument(
        "--save_path", type=cli.user_path, required=True, help="the checkpoint, a file"
    )
    parser.add_argument("--input", help="name of the image matrix")
    parser.add_argument("--output", help="name of the embeddings to write")
    parser.add_argument("--batch_size", type=int, help="images at once")
    parser.add_argument("--arch", help="checked against the checkpoint; may be left out")
    cli.add_compute_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
