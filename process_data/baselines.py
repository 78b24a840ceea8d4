"""Evaluate baselines without training: raw pixels and color histograms.

Reads   imageset.npy, mask2.npy, model_num.json; and the queries: test_image.npy and
        test_masked.npy, or with --isValid=1 valid_for_test.npy
Writes  evaluations/{pixels,histogram}-{valid,test}.json

    python -m process_data.baselines --dpath=~/ir/
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if __name__ == "__main__":  # before numpy is loaded
    from retrieval.threads import prepare_command

    prepare_command()

from retrieval import cli
from retrieval.data import image_index, layout, provenance, sources
from retrieval.data.split import check_same_list
from retrieval.evaluation import descriptors
from retrieval.evaluation.exact_search import ExactSearch
from retrieval.evaluation.inputs import check_n_image, load_ground_truth
from retrieval.evaluation.pipeline import PLAIN_RANKING, rank_gallery
from retrieval.evaluation.run import save_evaluation
from retrieval.evaluation.tables import evaluation_table

DESCRIPTORS: dict[str, descriptors.Descriptor] = {
    "pixels": descriptors.raw_pixels,
    "histogram": descriptors.color_histogram,
}


def run(
    data_dir: Path, k: int = 20, is_valid: bool = False, batch_size: int = 1024
) -> list[dict[str, Any]]:
    """Evaluate both baselines on the queries of ``mips``, print and return the metrics.

    Args:
        data_dir: The data directory.
        k: The k of map@k.
        is_valid: Evaluate on the validation images rather than on the test images.
        batch_size: Queries scored at once.
    """
    truth = load_ground_truth(data_dir, is_valid)
    truth.check_k(k)
    query_file = layout.IMAGE_MATRIX if is_valid else layout.TEST_MATRIX
    gallery_images = layout.IMAGE_MATRIX.load(data_dir)
    query_images = gallery_images if is_valid else query_file.load(data_dir)
    check_n_image(truth, layout.IMAGE_MATRIX.name, len(gallery_images))
    index = truth.query_index
    image_index.check_rows(index, len(query_images), truth.query_file, query_file.name)
    paths = [layout.IMAGE_MATRIX.at(data_dir), query_file.at(data_dir)]
    files = (layout.IMAGE_MATRIX, query_file)
    # Refuses a matrix of another run.
    origins = [provenance.load_record(data_dir, file.name, file) for file in files]
    check_same_list(origins[0], layout.IMAGE_MATRIX.name, truth.split)
    names = (*(file.name for file in files), layout.SPLIT.name, layout.MASKS_RECORD.name)
    sources.warn_stale(data_dir, *names)
    search = ExactSearch(batch_size)
    records = []
    for name, descriptor in DESCRIPTORS.items():
        gallery = descriptors.describe_images(descriptor, gallery_images, name)
        queries = gallery
        if not is_valid:
            queries = descriptors.describe_images(descriptor, query_images, name)
        described = truth.with_embeddings(queries[index], gallery, paths)
        measured = search.measure(rank_gallery(described, k, PLAIN_RANKING, search), k)
        records.append(save_evaluation(data_dir, described, name, measured, {"k": k}, "baselines"))
    print(evaluation_table(records))
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
