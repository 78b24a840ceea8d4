"""Search approximately, in LOPQ codes of a few bytes per image, and evaluate like the exact search.

Reads   database.npy, mask2.npy, model_num.json, valid_for_test.npy; and the queries, as mips
Writes  lopq.index, lopq.json, and what mips writes: mAP.json, neighbors.npy, similarities.npy,
        evaluations/nns-{valid,test}.json (or --run)

    python -m process_data.nns --dpath=~/ir/ --dimension=32 --k=20
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if __name__ == "__main__":  # before numpy is loaded
    from retrieval.threads import prepare_command

    prepare_command()

from retrieval import cli
from retrieval.data import options
from retrieval.data.formats import InputError
from retrieval.data.shards import Engine, check_shards
from retrieval.evaluation.code_search import CodeSearch, Keep, Rotation
from retrieval.evaluation.pipeline import PLAIN_RANKING, RankingOptions
from retrieval.evaluation.run import evaluate_search


def run(
    data_dir: Path,
    dimension: int = 32,
    k: int = 20,
    is_valid: bool = False,
    to_test: str | None = None,
    test_matrix: str | None = None,
    cells: int = 0,
    quota: int = 0,
    rerank: int = 0,
    keep: Keep = "none",
    rotation: Rotation = "pca",
    seed: int = 7,
    database: str | None = None,
    run_name: str = "nns",
    shards: int = 1,
    engine: Engine = "local",
    ranking: RankingOptions = PLAIN_RANKING,
) -> Path:
    """Rank the gallery for every query by codes, print the metrics, return the path of mAP.json.

    The index is fitted on the database without the validation images and holds all of it. It is
    used again until the database, the validation images or the options of the index change.

    Args:
        data_dir: The data directory.
        dimension: Sub-quantizers, which is the bytes per image.
        k: Neighbors kept for each query, and the k of map@k.
        is_valid: Evaluate on the validation images rather than on the test images.
        to_test: Index and Class of the queries; None takes the split's or the masks'.
        test_matrix: Embeddings of the queries; None takes the database's or the test images'.
        cells: Coarse cells; 0 makes one per thousand images.
        quota: Images ranked for each query; 0 takes 20 per result that the metrics need.
        rerank: Re-rank the first N by their vectors; 0 disables.
        keep: Keep the vectors in the index, rounded, and re-rank by these rather than by the
            database: ``float16`` takes 2 bytes per dimension, ``int8`` one.
        rotation: How the rotations of the cells are found.
        seed: Random seed of the fit.
        database: Embeddings of the database; None takes ``database.npy``.
        run_name: Name of the evaluation.
        shards: Parts in which the database is encoded; above 1, a run that was stopped goes on
            with the missing ones, and the index is joined without holding it in memory.
        engine: Where parts are encoded: ``local`` or ``ray``, as tasks of a Ray cluster.
        ranking: Expansion and re-ranking; with ``rerank_kr``, ``map`` is left out.
    """
    recorded = options.flat(locals())
    for name in ("shards", "engine"):
        recorded.pop(name)  # they change no result
    check_shards(shards, None, engine)
    if shards > 1 and ranking.dba:
        raise InputError("--dba expands the gallery in memory; leave out --dba or --shards")
    if min(cells, quota, rerank) < 0 or dimension < 1:
        raise InputError("--cells, --quota and --rerank must be at least 0, --dimension at least 1")
    if keep != "none" and not rerank:
        raise InputError(f"--keep={keep} keeps vectors to re-rank by: add --rerank=N")
    search = CodeSearch(
        data_dir,
        ranking,
        {"M": dimension, "rotation": rotation, "seed": seed},
        cells=cells,
        quota=quota,
        rerank=rerank,
        keep=keep,
        shards=shards,
        engine=engine,
    )
    return evaluate_search(data_dir, "nns", search, ranking, recorded)


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    cli.add_search_arguments(parser)
    add = parser.add_argument
    add("--dimension", type=int, help="sub-quantizers: bytes per image")
    add("--cells", type=int, help="coarse cells; 0: one per thousand images")
    add("--quota", type=int, help="images ranked for each query; 0: 20 per result needed")
    add("--rerank", type=int, help="re-rank the first N by their vectors; 0 disables")
    add("--keep", choices=get_args(Keep), help="type of the vectors kept in the index for --rerank")
    add("--rotation", choices=get_args(Rotation), help="how the cells' rotations are found")
    add("--seed", type=int, help="random seed of the fit")
    cli.add_shard_arguments(parser, one=False)
    options.add_arguments(parser, RankingOptions, "ranking")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
