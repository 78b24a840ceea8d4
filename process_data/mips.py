"""Search exactly, by maximum inner product, and evaluate.

Reads   database.npy, mask2.npy, model_num.json; and the queries: tdatabase.npy and
        test_masked.npy, or with --isValid=1 database.npy and valid_for_test.npy
Writes  mAP.json, neighbors.npy, similarities.npy, evaluations/mips-{valid,test}.json (or --run)

    python -m process_data.mips --dpath=~/ir/ --batch_size=1024 --k=20

Several processes share the database and find the same:

    torchrun --nproc_per_node=2 -m process_data.mips --dpath=~/ir/
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if __name__ == "__main__":  # before numpy is loaded
    from retrieval.threads import prepare_command

    prepare_command()

from retrieval import cli
from retrieval.compute import devices, distributed
from retrieval.data import options
from retrieval.evaluation.exact_search import ExactSearch
from retrieval.evaluation.pipeline import PLAIN_RANKING, RankingOptions
from retrieval.evaluation.run import evaluate_search


def run(
    data_dir: Path,
    batch_size: int = 1024,
    k: int = 20,
    is_valid: bool = False,
    to_test: str | None = None,
    test_matrix: str | None = None,
    device: str = "auto",
    database: str | None = None,
    run_name: str = "mips",
    ranking: RankingOptions = PLAIN_RANKING,
) -> Path:
    """Rank the gallery for every query, print the metrics and return the path of ``mAP.json``.

    Args:
        data_dir: The data directory.
        batch_size: Queries scored at once.
        k: Neighbors kept for each query, and the k of map@k.
        is_valid: Evaluate on the validation images rather than on the test images.
        to_test: Index and Class of the queries; None takes the split's or the masks'.
        test_matrix: Embeddings of the queries; None takes the database's or the test images'.
        device: auto, cpu, cuda or cuda:n.
        database: Embeddings of the database; None takes ``database.npy``.
        run_name: Name of the evaluation.
        ranking: Expansion and re-ranking.
    """
    recorded = options.flat(locals())
    with distributed.process_group(devices.resolve(device)) as place:
        search = ExactSearch(batch_size, place)
        return evaluate_search(data_dir, "mips", search, ranking, recorded)


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    cli.add_search_arguments(parser)
    parser.add_argument("--batch_size", type=int, help="queries scored at once")
    parser.add_argument("--device", help=devices.DEVICE_HELP)
    options.add_arguments(parser, RankingOptions, "ranking")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
