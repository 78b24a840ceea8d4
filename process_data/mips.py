"""Search exactly, by maximum inner product, and evaluate.

Reads   database.npy, mask2.npy, model_num.json; and the queries: tdatabase.npy and
        test_masked.npy, or with --isValid=1 database.npy and valid_for_test.npy
Writes  mAP.json, neighbors.npy, similarities.npy, evaluations/mips-{valid,test}.json (or --run)

    python -m process_data.mips --dpath=~/ir/ --batch_size=1024 --k=20

Several processes share the database among them, and find the same:

    torchrun --nproc_per_node=2 -m process_data.mips --dpath=~/ir/
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from retrieval import cli
from retrieval.compute import devices, distributed
from retrieval.data import layout
from retrieval.evaluation import evaluate, metrics, ranking, ranks
from retrieval.evaluation.query_gallery import load_task


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
    qe: int = 0,
    qe_alpha: float = 3.0,
    dba: int = 0,
    rerank_kr: int = 0,
    kr_k1: int = 20,
    kr_k2: int = 6,
    kr_weight: float = 0.3,
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
        database: Embeddings of the database; database.npy where None.
        run_name: The evaluation is kept under this name, beside others.
        qe: Expand each query with its first so many results, and search again.
        qe_alpha: Power of the similarities that weigh the neighbors in qe and dba.
        dba: Expand each image of the gallery with so many neighbors.
        rerank_kr: Put the first so many results into the order of their reciprocal neighbors.
        kr_k1: Neighbors that may be reciprocal.
        kr_k2: Images whose encodings are averaged.
        kr_weight: Of the plain distance beside that of the neighbors, from 0 to 1.
    """
    options = {name: value for name, value in locals().items() if name != "data_dir"}
    refinement = ranking.Refinement.of(options)
    task = load_task(data_dir, is_valid, to_test, test_matrix, database)
    task.check_k(k)
    with distributed.process_group(devices.choose(device)) as place:
        task = refinement.with_gallery(task, place)
        find = ranking.finder(task, batch_size, place)
        task = refinement.with_queries(task, find)
        if rerank_kr:
            ids, _ = find(task.queries, refinement.depth(task, k))
            ids, similarities = refinement.rerank(task, ids, place)
            first = ids[:, :rerank_kr]
            hits = metrics.find_hits(first, task.query_labels, task.gallery_labels)
            plain = evaluate.exact_ranks(task, batch_size, place)
            measured = evaluate.measure(task, ids, k, ranks.with_reordered(plain, hits))
        else:
            ids, similarities, measured = evaluate.search_exactly(task, k, batch_size, place)
        if not distributed.is_main():
            return layout.METRICS.at(data_dir)
    found = ids[:, :k], similarities[:, :k]
    used = devices.describe(place)
    return evaluate.save(data_dir, task, run_name, *found, measured, options, "mips", used)


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    cli.add_search_arguments(parser)
    cli.add_refine_arguments(parser)
    parser.add_argument("--batch_size", type=int, help="queries scored at once")
    parser.add_argument("--device", help=cli.DEVICE_HELP)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
