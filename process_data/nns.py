"""Search approximately, in LOPQ codes of a few bytes per image, and evaluate like the exact search.

Reads   database.npy, mask2.npy, model_num.json, valid_for_test.npy; and the queries, as mips
Writes  lopq.index, lopq.json, and what mips writes: mAP.json, neighbors.npy, similarities.npy,
        evaluations/nns-{valid,test}.json (or --run)

    python -m process_data.nns --dpath=~/ir/ --dimension=32 --k=20
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from retrieval.search.nearest import nearest_neighbors

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from lopq import LOPQError, LOPQModel, LOPQSearcher
from lopq.sampling import training_rows
from lopq.storage import VERSION
from retrieval import cli
from retrieval.data import layout, provenance
from retrieval.data.formats import InputError
from retrieval.evaluation import evaluate, ranking
from retrieval.evaluation.query_gallery import QueryGallery, load_task

log = logging.getLogger(__name__)

Rotation = Literal["pca", "procrustes", "global", "none"]

IMAGES_PER_CELL = 1000  # what a cell should hold, where the number of cells is not given
MOST_CELLS = 1024
CANDIDATES_PER_RESULT = 20  # what is ranked for each result kept, where no quota is given
RECALL_SAMPLE = 1000  # queries that are searched exactly too, for comparison


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
    rotation: Rotation = "pca",
    seed: int = 7,
    database: str | None = None,
    run_name: str = "nns",
    qe: int = 0,
    qe_alpha: float = 3.0,
    dba: int = 0,
    rerank_kr: int = 0,
    kr_k1: int = 20,
    kr_k2: int = 6,
    kr_weight: float = 0.3,
) -> Path:
    """Rank the gallery for every query by codes, print the metrics, return the path of mAP.json.

    The index is fitted on the database without the validation images, holds all of it, and is
    used again as long as the database, the validation images and the options of the index stay
    the same.

    Args:
        data_dir: The data directory.
        dimension: Sub-quantizers, which is the bytes of an image.
        k: Neighbors kept of each query, and the k of map@k.
        is_valid: Evaluate on the validation images rather than on the test images.
        to_test: Index and Class of the queries; the split's or the masks' where it is None.
        test_matrix: Embeddings of the queries; the database's or the test images' where None.
        cells: Coarse cells; 0 makes one for each thousand images.
        quota: Images ranked for each query; 0 takes 20 for each result that the metrics need.
        rerank: The first so many are scored again, exactly, from the database.
        rotation: How the rotations of the cells are found.
        seed: Of everything that is drawn.
        database: Embeddings of the database; database.npy where None.
        run_name: The evaluation is kept under this name, beside others.
        qe: Expand each query with its first so many results, and search again.
        qe_alpha: Power of the similarities that weigh the neighbors in qe and dba.
        dba: Expand each image of the gallery with so many neighbors.
        rerank_kr: Put the first so many results into the order of their reciprocal neighbors;
            ``map`` is left out then.
        kr_k1: Neighbors that may be reciprocal.
        kr_k2: Images whose encodings are averaged.
        kr_weight: Of the plain distance beside that of the neighbors, from 0 to 1.
    """
    options = {name: value for name, value in locals().items() if name != "data_dir"}
    if min(cells, quota, rerank) < 0 or dimension < 1:
        raise InputError("--cells, --quota and --rerank must be at least 0, --dimension at least 1")
    refinement = ranking.Refinement.of(options)
    task = load_task(data_dir, is_valid, to_test, test_matrix, database)
    task.check_k(k)
    task = refinement.with_gallery(task)
    n_cells = cells or min(max(1, len(task.gallery) // IMAGES_PER_CELL), MOST_CELLS)
    try:
        searcher = _fitted(data_dir, task, V=n_cells, M=dimension, rotation=rotation, seed=seed)
        searcher.remove(np.flatnonzero(~task.is_allowed))
        depth = refinement.depth(task, k)

        def find(queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
            scores, ids = searcher.search_batch(
                queries,
                count,
                quota=quota or CANDIDATES_PER_RESULT * depth,
                rerank=rerank,
                vectors=task.gallery,
            )
            # The squared distance of unit vectors is 2 - 2 * similarity (without --rerank, as far
            # as the codes, and beyond 256 dimensions the principal components, tell).
            return ids, 1 + scores / 2

        started = time.perf_counter()
        task = refinement.with_queries(task, find)
        ids, similarities = find(task.queries, depth)
        found = ids[:, :k]
        if rerank_kr:
            ids, similarities = refinement.rerank(task, ids)
    except LOPQError as error:
        raise InputError(str(error)) from error
    seconds = time.perf_counter() - started
    measured = evaluate.measure(task, ids, k)
    recall = measured.more["recall@k vs exact"] = recall_of_exact(task, found)
    log.info(
        "searched %d queries in %.2f s; %d bytes per image and %d of the model; of the exact "
        "first %d, %.4f were found",
        len(ids),
        seconds,
        dimension,
        searcher.model.nbytes,
        k,
        recall,
    )
    return evaluate.save(
        data_dir, task, run_name, ids[:, :k], similarities[:, :k], measured, options, "nns"
    )


def recall_of_exact(task: QueryGallery, ids: np.ndarray) -> float:
    """Return the share of the exact first k that ``ids`` has, over evenly spaced queries.

    Args:
        task: What was searched.
        ids: (n_query, k) int64.
    """
    n_query, k = ids.shape
    rows = np.unique(np.linspace(0, n_query - 1, min(n_query, RECALL_SAMPLE)).astype(int))
    exact, _ = nearest_neighbors(task.queries[rows], task.gallery, k, is_allowed=task.is_allowed)
    found = [len(np.intersect1d(a, b)) for a, b in zip(exact, ids[rows], strict=True)]
    return float(np.mean(found) / k)


def _fitted(data_dir: Path, task: QueryGallery, **options: Any) -> LOPQSearcher:
    """Return the index of the whole database, fitted now or at an earlier run."""
    path = layout.LOPQ_INDEX.at(data_dir)
    valid = np.unique(layout.VALID_QUERIES.load(data_dir)[:, 0])  # who they are, in one order
    wanted = {
        "database_sha256": provenance.sha256_of_rows(task.gallery),
        "valid_sha256": provenance.sha256_of_rows(valid),  # left out of the training
        "format": VERSION,
        "options": options,
    }
    if path.exists() and layout.LOPQ_RECORD.at(data_dir).exists():
        if layout.LOPQ_RECORD.load(data_dir) == wanted:
            log.info("%s is of this database and these options", path)
            return LOPQSearcher.load(path)
        log.info("%s is of other images, options or of another format: fitting again", path)
    started = time.perf_counter()
    model = LOPQModel(**options)
    rows = np.setdiff1d(np.arange(len(task.gallery)), valid)
    sample = training_rows(len(rows), model.V, model.seed)  # of the numbers: the rows are in a file
    model.fit(task.gallery[rows if sample is None else rows[sample]], train_size=None)
    fitted = time.perf_counter()
    searcher = LOPQSearcher(model)
    searcher.add_data(task.gallery)
    log.info(
        "fitted %d cells in %.2f s, encoded %d images in %.2f s",
        model.V,
        fitted - started,
        len(task.gallery),
        time.perf_counter() - fitted,
    )
    # In this order, a kill in between leaves an index without a record, which is fitted again.
    layout.LOPQ_RECORD.at(data_dir).unlink(missing_ok=True)
    searcher.save(path)
    layout.LOPQ_RECORD.save(data_dir, wanted)
    return searcher


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    cli.add_search_arguments(parser)
    cli.add_refine_arguments(parser)
    add = parser.add_argument
    add("--dimension", type=int, help="sub-quantizers: the bytes of an image")
    add("--cells", type=int, help="coarse cells; 0: one for each thousand images")
    add("--quota", type=int, help="images ranked for each query; 0: 20 for each result needed")
    add("--rerank", type=int, help="score the first so many again, exactly, from the database")
    add("--rotation", choices=get_args(Rotation), help="how the cells' rotations are found")
    add("--seed", type=int, help="of everything that is drawn")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
