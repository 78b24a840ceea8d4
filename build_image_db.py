"""Encode images into the image database.

Reads   a checkpoint of train.py and an image matrix (--input), or an index csv and photos
        (--image_info)
Writes  database.npy, or the name given as --output, and a .json of the same stem that records the
        checkpoint and the images

    python build_image_db.py --dpath=~/ir/ --save_path=~/ir/para/model.ep0

Several processes, on one machine or more with a shared disk, write one file together:

    torchrun --nproc_per_node=2 build_image_db.py --dpath=~/ir/ --save_path=~/ir/para/model.ep0

On machines that may be interrupted, make shards instead, and repeat a command until it succeeds:

    python build_image_db.py --dpath=~/ir/ --save_path=~/ir/para/model.ep0 --shards=64 --shard=7

or a Ray cluster makes all of them:

    python build_image_db.py --dpath=~/ir/ --save_path=~/ir/para/model.ep0 --shards=64 --engine=ray
"""

import argparse
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

if __name__ == "__main__":  # before numpy is loaded
    from retrieval.threads import prepare_command

    prepare_command()

import numpy as np

from retrieval import cli
from retrieval.compute.devices import Precision
from retrieval.data import layout, options, provenance, sources
from retrieval.data.decoded_photos import (
    USUAL_PHOTOS,
    IndexedPhotos,
    PhotoOptions,
    UnreadableImages,
)
from retrieval.data.formats import InputError
from retrieval.data.shards import Engine, check_shards
from retrieval.model import checkpoint
from retrieval.model.database_encoder import (
    DatabaseEncoder,
    EncodingOptions,
    Source,
    encoding_device,
)
from retrieval.model.encoding_job import EncodingJob
from retrieval.model.model_config import SCALES_HELP, TTA_HELP, Runtime, Tta

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
    tta: Tta | None = None,
    scales: tuple[float, ...] | None = None,
    adapt_bn: bool = False,
    compile: bool = False,
    runtime: Runtime = "auto",
    image_info: str | None = None,
    photos: PhotoOptions = USUAL_PHOTOS,
    shards: int = 1,
    shard: int | None = None,
    engine: Engine = "local",
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
        tta: ``flip`` averages the embeddings of each image and of its mirror image; None takes
            what the checkpoint was trained for.
        scales: Averages the embeddings at these multiples of the model's side; None as above.
        adapt_bn: Estimate the batch norm statistics from these images. No label is used, but
            each embedding then depends on all images of the matrix.
        compile: Compile the network first; takes minutes, pays off for many images.
        runtime: What runs the network. ``auto`` takes the fastest one that is installed, for many
            images on a CPU, in one process and without shards; the record names it.
        image_info: Index csv of photos to encode without a matrix; ``input`` is then left alone.
        photos: Where these are, and how they become squares.
        shards: Number of parts; above 1, only parts that are missing are made, and all are joined
            in the end. Several machines with a shared disk can make one each.
        shard: Make only this part, from 0; None makes all that are missing.
        engine: Where parts are made: ``local`` or ``ray``, as tasks of a Ray cluster.
    """
    options.check(photos)
    if batch_size < 1:
        raise InputError(f"--batch_size must be at least 1; got {batch_size}")
    if shards > 1 and runtime == "auto":
        runtime = "torch"  # each machine might choose another one
        if find_spec("openvino"):
            log.info("torch encodes shards; if all machines have OpenVINO, add --runtime=openvino")
    if runtime not in ("auto", "torch") and compile:
        raise InputError(f"--runtime={runtime} is compiled already: leave --compile out")
    path = layout.DATABASE.target(data_dir, output)
    provenance.record_target(data_dir, output)
    if os.path.realpath(path) == os.path.realpath(layout.IMAGE_MATRIX.at(data_dir, input)):
        raise InputError(f"--input and --output are both {output}; choose another --output")
    save_path = save_path.expanduser()
    checkpoint.check_exists(save_path, data_dir)
    check_shards(shards, shard, engine)
    how = EncodingOptions(
        batch_size,
        arch,
        device,
        precision,
        tta,
        scales and tuple(scales),
        adapt_bn,
        compile,
        runtime,
    )
    if shards > 1:
        job = EncodingJob(data_dir, save_path, input, output, image_info, photos, how, shards)
        try:
            return _encode_shards(job, shard, engine)
        except UnreadableImages:
            if image_info is not None and photos.on_unreadable == "stop":
                IndexedPhotos.open(data_dir, image_info, photos).readable()  # lists them
            raise InputError(
                "some photos cannot be read; shards take the rows of one csv: list those that can "
                "be read with --on_unreadable=drop and without --shards, and name that csv"
            ) from None
    if image_info is None:
        return _encode(data_dir, save_path, Source.of_matrix(data_dir, input), output, how)
    indexed = IndexedPhotos.open(data_dir, image_info, photos)
    try:
        return _encode(data_dir, save_path, Source.of_photos(indexed), output, how)
    except UnreadableImages:
        asked = {"save_path": str(save_path), "output": output, "image_info": image_info}
        kept = indexed.readable("python build_image_db.py", {**asked, **asdict(photos)})
        source = Source.of_photos(kept)
    return _encode(data_dir, save_path, source, output, how)


def _encode(
    data_dir: Path, save_path: Path, source: Source, output: str, how: EncodingOptions
) -> Path:
    """Write the embeddings of some images and their record; return the path of the former."""
    from retrieval.compute import distributed

    path, n_image = layout.DATABASE.at(data_dir, output), len(source.images)
    with distributed.process_group(encoding_device(how)) as place:
        if distributed.is_main():
            sources.warn_stale(data_dir, source.name, photos=True)
        encoder = DatabaseEncoder(save_path, source, how, place)
        rows = distributed.own_part(n_image, how.batch_size)
        shape = (n_image, encoder.dim)
        with distributed.row_writer(path, shape, layout.DATABASE.dtype) as database:
            digest = encoder.write(rows, database, 0, output)
        parts = distributed.gather(np.array(digest))
        is_main = distributed.is_main()
    if is_main:
        _save_record(data_dir, output, encoder.record(), list(map(str, parts)))
    return path


def _encode_shards(job: EncodingJob, shard: int | None, engine: Engine) -> Path:
    """Write the shards that are missing, and join them if all are there."""
    from retrieval.compute import distributed
    from retrieval.compute.make_shards import make_shards

    if distributed.size() > 1:
        raise InputError("--shards divides the work by itself; start it without torchrun")
    sources.warn_stale(job.data_dir, job.image_info or job.input, photos=True)
    whole = make_shards(job, engine, shard)
    if whole.is_done:
        log.info("%s was made from the same images with the same options: done", job.target)
        return job.target
    if whole.lacks_some():
        return whole.folder
    digests = whole.join()
    _save_record(job.data_dir, job.output, whole.record | {"made_from": whole.origin}, digests)
    whole.remove()
    return job.target


def _save_record(data_dir: Path, output: str, record: dict[str, Any], parts: list[str]) -> None:
    checkpoint = sources.source_name(data_dir, Path(record["checkpoint"]))
    record["sources"] = {**record["sources"], checkpoint: record["checkpoint_sha256"]}
    record["images_sha256"] = provenance.RowsDigest.of_parts(parts).hexdigest()
    _name_other_threads(data_dir, output, record)
    provenance.save_record(data_dir, output, record)
    rows, dim, path = record["rows"], record["dim"], layout.DATABASE.at(data_dir, output)
    log.info("%s: %d embeddings of %d dimensions", path, rows, dim)


def _name_other_threads(data_dir: Path, output: str, record: dict[str, Any]) -> None:
    """Warn if only the number of threads differs from the existing record."""
    if not layout.DATABASE_RECORD.at(data_dir, provenance.record_name(output)).exists():
        return
    before = layout.DATABASE_RECORD.load(data_dir, provenance.record_name(output))
    threads = before.get("threads")
    if threads != record["threads"] and {**before, **record, "threads": threads} == before:
        log.warning(
            "%s was encoded with %s threads, now with %d: the last bits may differ; --threads=%s "
            "repeats it",
            output,
            threads,
            record["threads"],
            threads,
        )


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
    cli.add_shard_arguments(parser)
    parser.add_argument("--batch_size", type=int, help="images per batch")
    parser.add_argument("--arch", help="backbone; an error if the checkpoint has another one")
    parser.add_argument("--tta", choices=get_args(Tta), help=TTA_HELP)
    parser.add_argument("--scales", type=cli.numbers, help=SCALES_HELP)
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
        help="what runs the network on a CPU; auto: the fastest installed, for many images",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
