"""Search exactly, by maximum inner product, and evaluate.

Reads   database.npy, mask2.npy, model_num.json; and the queries: tdatabase.npy and
        test_masked.npy, or with --isValid=1 database.npy and valid_for_test.npy
Writes  mAP.json, neighbors.npy, similarities.npy, evaluations/mips-{valid,test}.json

    python -m process_data.mips --dpath=~/ir/ --batch_size=1024 --k=20
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from retrieval import cli, devices, evaluation
from retrieval.task import load_task


def run(
    data_dir: Path,
    batch_size: int = 1024,
    k: int = 20,
    is_valid: bool = False,
    to_test: str | None = None,
    test_matrix: str | None = None,
    device: str = "auto",
) -> Path:
    """Rank the gallery for every query, print the metrics and return the path of ``mAP.json``.

    Args:
        data_dir: The data directory.
        batch_size: Queries scored at once.
        k: Neighbors kept of each query, and the k of map@k.
        is_valid: Evaluate on the validation images rather than on the test images.
        to_test: Index and Class of the queries; the split's or the masks' where it is None.
        test_matrix: Embeddings of the queries; the database's or the test images' where None.
        device: auto, cpu, cuda or cuda:n.
    """
    options = {name: value for name, value in locals().items() if name != "data_dir"}
    task = load_task(data_dir, is_valid, to_test, test_matrix)
    task.check_k(k)
    place = devices.choose(device)
    ids, similarities, measured = evaluation.search_exactly(task, k, batch_size, place)
    return evaluation.save(
        data_dir, task, "mips", ids[:, :k], similarities[:, :k], measured, options
    )


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    cli.add_search_arguments(parser)
    parser.add_argument("--batch_size", type=int, help="queries scored at once")
    parser.add_argument("--device", help=cli.DEVICE_HELP)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
