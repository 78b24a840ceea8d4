"""Approximate search in LOPQ codes as an evaluation uses it, and its index on disk."""

import hashlib
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from retrieval.data import files, layout
from retrieval.data.formats import InputError
from retrieval.data.provenance import sha256_of_array
from retrieval.data.shards import Engine
from retrieval.evaluation import code_shards
from retrieval.evaluation.code_shards import lopq_errors
from retrieval.evaluation.measure import Measured, measure
from retrieval.evaluation.query_gallery import QueryGallery
from retrieval.evaluation.ranking import Find, Ranked, RankingOptions
from retrieval.search.nearest import nearest_neighbors, without_own
from retrieval.threads import worker_threads

if TYPE_CHECKING:
    from lopq import LOPQSearcher

log = logging.getLogger(__name__)

Rotation = Literal["pca", "procrustes", "global", "none"]
Keep = Literal["none", "float16", "int8"]  # as lopq.kept, which is imported when it is needed

IMAGES_PER_CELL = 1000  # images in a cell if --cells is 0
MOST_CELLS = 1024
CANDIDATES_PER_RESULT = 20  # images ranked for each result if --quota is 0
HEADER_BYTES = 1 << 16
RECALL_SAMPLE = 1000  # queries that are searched exactly too, for comparison


class CodeSearch:
    """Rank by codes.

    Attributes:
        device: Always ``cpu``.
        seconds: Time spent in searches.
    """

    device = "cpu"

    def __init__(
        self,
        data_dir: Path,
        ranking: RankingOptions,
        fitting: dict[str, Any],
        cells: int = 0,
        quota: int = 0,
        rerank: int = 0,
        keep: Keep = "none",
        shards: int = 1,
        engine: Engine = "local",
    ) -> None:
        """Describe a search.

        Args:
            data_dir: The data directory, which keeps the index.
            ranking: Expansion and re-ranking; the index holds the expanded gallery.
            fitting: Options of ``LOPQModel`` but the number of cells.
            cells: Coarse cells; 0 makes one per thousand images.
            quota: Images ranked for each query; 0 takes 20 per result.
            rerank: First results that are scored again.
            keep: From what: vectors in the index, rounded, or the database.
            shards: Parts in which the database is encoded; 1: the whole at once.
            engine: Where.
        """
        self.data_dir, self.ranking, self.fitting = data_dir, ranking, fitting
        self.cells, self.quota, self.rerank, self.keep = cells, quota, rerank, keep
        self.shards, self.engine = shards, engine
        self.seconds = 0.0

    def finder(self, query_gallery: QueryGallery, depth: int) -> Find:
        """Return the search in a gallery, whose index is fitted now or was at an earlier run."""
        gallery = query_gallery.gallery
        if self.fitting["M"] > gallery.shape[1]:
            raise InputError(
                f"--dimension must be at most {gallery.shape[1]}, the dimensions of the "
                f"embeddings; got {self.fitting['M']}"
            )
        n_cells = self.cells or min(max(1, len(gallery) // IMAGES_PER_CELL), MOST_CELLS)
        fitting = {"V": n_cells, **self.fitting}
        with lopq_errors():
            searcher = fitted_index(
                self.data_dir,
                query_gallery,
                self.ranking,
                fitting,
                self.keep,
                self.shards,
                self.engine,
            )
        quota = self.quota or CANDIDATES_PER_RESULT * depth
        from lopq.kept import kept_bytes

        size = searcher.model.M + kept_bytes(self.keep, gallery.shape[1])
        log.info("%d bytes per image and %d of the model", size, searcher.model.nbytes)

        def find(queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
            started = time.perf_counter()
            with lopq_errors():
                scores, ids = searcher.search_batch(
                    queries,
                    count,
                    quota=quota,
                    rerank=self.rerank,
                    vectors=gallery if self.keep == "none" else None,
                    allowed=query_gallery.is_allowed,
                )
            self.seconds += time.perf_counter() - started
            # The squared distance of unit vectors is 2 - 2 * similarity. Without --rerank, codes
            # (and beyond 256 dimensions, principal components) approximate it.
            return ids, 1 + scores / 2

        return find

    def measure(self, ranked: Ranked, k: int) -> Measured:
        """Measure a ranking as deep as it is, and the recall of the exact results."""
        query_gallery, ids = ranked.query_gallery, ranked.ids
        measured = measure(query_gallery, ids, k)
        found_ids = ranked.found_ids[:, :k]
        recall = measured.more["recall@k vs exact"] = recall_of_exact(query_gallery, found_ids)
        log.info(
            "searched %d queries in %.2f s; found %.4f of the exact first %d",
            len(ids),
            self.seconds,
            recall,
            k,
        )
        return measured


def recall_of_exact(query_gallery: QueryGallery, ids: np.ndarray) -> float:
    """Return the share of the exact first k that ``ids`` holds, over evenly spaced queries.

    Args:
        query_gallery: What was searched.
        ids: (n_query, k) int64.
    """
    n_query, k = ids.shape
    rows = np.unique(np.linspace(0, n_query - 1, min(n_query, RECALL_SAMPLE)).astype(int))
    own, is_same_set = query_gallery.own_rows, query_gallery.is_same_set
    exact, similarities = nearest_neighbors(
        query_gallery.queries[rows],
        query_gallery.gallery,
        k + is_same_set,
        is_allowed=query_gallery.is_allowed,
    )
    if own is not None:
        exact, _ = without_own(exact, similarities, own[rows])
    found = [len(np.intersect1d(a, b)) for a, b in zip(exact, ids[rows], strict=True)]
    return float(np.mean(found) / k)


def fitted_index(
    data_dir: Path,
    query_gallery: QueryGallery,
    ranking: RankingOptions,
    fitting: dict[str, Any],
    keep: Keep = "none",
    shards: int = 1,
    engine: Engine = "local",
) -> "LOPQSearcher":
    """Return the index of the whole database, fitted now or at an earlier run."""
    from lopq import LOPQSearcher
    from lopq.storage import VERSION

    path = layout.LOPQ_INDEX.at(data_dir)
    valid = np.unique(layout.VALID_QUERIES.load(data_dir)[:, 0])  # sorted: any order will do
    inputs = query_gallery.inputs
    wanted: dict[str, Any] = {
        "database_sha256": next(iter(inputs.sha256.values())),  # the database comes first
        "valid_sha256": sha256_of_array(valid),  # not trained on
        "format": VERSION,
        "options": fitting,
    }
    if keep != "none":
        wanted["keep"] = keep
    if ranking.dba:
        allowed = sha256_of_array(query_gallery.is_allowed)
        wanted |= {"dba": [ranking.dba, ranking.qe_alpha], "allowed_sha256": allowed}
    if path.is_file() and layout.LOPQ_RECORD.at(data_dir).exists():
        record = layout.LOPQ_RECORD.load(data_dir)
        if isinstance(record, dict):
            record.pop("threads", None)  # others would fit the same but for the last digits
        if record == wanted | {"index": _identity(path)}:
            log.info("%s fits this database and these options; used again", path)
            return LOPQSearcher.load(path)
        log.info("%s has other images, other options or another format: fitting again", path)
    if shards > 1:
        database = inputs.paths[0]
        model = code_shards.fitted_model(path, query_gallery.gallery, valid, fitting, wanted)
        job = code_shards.CodeJob.of(database, path, shards, model, wanted["database_sha256"], keep)
        save = code_shards.made(job, engine)
    else:
        save = fit_index(query_gallery.gallery, valid, fitting, keep).save
    # In this order, a kill in between leaves an index without a record, which is fitted again.
    layout.LOPQ_RECORD.at(data_dir).unlink(missing_ok=True)
    with files.whole(path) as part:
        save(part)
        identity = _identity(part)
    layout.LOPQ_RECORD.save(data_dir, wanted | {"index": identity, "threads": worker_threads()})
    code_shards.remove(path)
    return LOPQSearcher.load(path, verify=False)


def _identity(path: Path) -> str:
    """Return an identity of an index: its size, and a hash of its beginning.

    The header there has the checksums of all that follows.
    """
    with path.open("rb") as file:
        beginning = hashlib.sha256(file.read(HEADER_BYTES)).hexdigest()
    return f"{path.stat().st_size} {beginning}"


def fit_index(
    database: np.ndarray, left_out: np.ndarray, fitting: dict[str, Any], keep: Keep = "none"
) -> "LOPQSearcher":
    """Fit an index on the database without some rows, and add all rows to it."""
    from lopq import LOPQSearcher

    searcher = LOPQSearcher(code_shards.fit_model(database, left_out, fitting), keep)
    started = time.perf_counter()
    searcher.add_data(database)
    log.info("encoded %d images in %.2f s", len(database), time.perf_counter() - started)
    return searcher
