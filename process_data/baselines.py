"""Evaluate searches that need no training, by raw pixels and by color histograms.

Reads   imageset.npy, test_image.npy, and what process_data.mips reads
Writes  evaluations/{pixels,histogram}-{valid,test}.json

    python -m process_data.baselines --dpath=~/ir/
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from retrieval import cli
from retrieval.compute import devices
from retrieval.data import layout
from retrieval.evaluation import descriptors, evaluate, tables
from retrieval.evaluation.query_gallery import load_task

DESCRIPTORS: dict[str, descriptors.Descriptor] = {
    "pixels": descriptors.raw_pixels,
    "histogram": descriptors.color_histogram,
}


def run(
    data_dir: Path, k: int = 20, is_valid: bool = False, batch_size: int = 1024
) -> list[dict[str, Any]]:
    """Evaluate both baselines on the task that ``mips`` evaluates, print and return the metrics.

    Args:
        data_dir: The data directory.
        k: Of map@k.
        is_valid: Evaluate on the validation images rather than on the test images.
        batch_size: Queries scored at once.
    """
    task = load_task(data_dir, is_valid)
    task.check_k(k)
    gallery_images = layout.IMAGE_MATRIX.load(data_dir)
    query_images = gallery_images if is_valid else layout.TEST_MATRIX.load(data_dir)
    query_file = layout.IMAGE_MATRIX if is_valid else layout.TEST_MATRIX
    images = (layout.IMAGE_MATRIX.at(data_dir), query_file.at(data_dir))
    records = []
    for name, descriptor in DESCRIPTORS.items():
        gallery = descriptors.describe(descriptor, gallery_images, name)
        queries = gallery if is_valid else descriptors.describe(descriptor, query_images, name)
        described = replace(
            task,
            queries=queries[task.query_index],
            gallery=gallery,
            files=(*images, *task.files[2:]),
        )
        *_, measured = evaluate.search_exactly(described, k, batch_size, devices.choose("cpu"))
        options = {"k": k}
        records.append(
            evaluate.save_metrics(data_dir, described, name, measured, options, "baselines")
        )
    print(tables.table(records))
    return records


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    cli.add_query_arguments(parser)
    parser.add_argument("--batch_size", type=int, help="queries scored at once")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
