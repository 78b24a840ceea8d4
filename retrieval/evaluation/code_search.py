"""Approximate search in LOPQ codes as an evaluation uses it, and its index on disk."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from retrieval.compute.make_shards import make_shards
from retrieval.data import files, layout
from retrieval.data.formats import InputError
from retrieval.data.provenance import sha256_of_array, sha256_of_header
from retrieval.data.shards import Engine
from retrieval.evaluation import code_shards
from retrieval.evaluation.code_shards import lopq_errors
from retrieval.evaluation.metrics import RECALL, Measured, measure
from retrieval.evaluation.pipeline import Find, Ranked, RankingOptions
from retrieval.evaluation.query_gallery import QueryGallery
from retrieval.search.exact import nearest_neighbors, recall_of_exact, without_own
from retrieval.threads import worker_threads

if TYPE_CHECKING:
    from lopq import LOPQSearcher

log = logging.getLogger(__name__)

Rotation = Literal["pca", "none"]
Keep = Literal["none", "float16", "int8"]  # lopq.index.refine is imported when it is needed

IMAGES_PER_CELL = 1000  # images in a cell if --cells is 0
MOST_CELLS = 1024
CANDIDATES_PER_RESULT = 20  # images ranked for each result if --quota is 0
RECALL_SAMPLE = 1000  # queries that are searched exactly too, for comparison


@dataclass
class CodeSearch:
    """Rank by codes.

    Attributes:
        data_dir: The data directory, which keeps the index.
        ranking: Expansion and re-ranking; the index holds the expanded gallery.
        fitting: Options of ``LOPQModel`` but the number of cells.
        cells: Coarse cells; 0 makes one per thousand images.
        quota: Images ranked for each query; 0 takes 20 per result.
        rerank: First results that are scored again.
        keep: From what: vectors in the index, rounded, or the database.
        shards: Parts in which the database is encoded; 1: the whole at once.
        engine: Where.
        seconds: Time spent in searches.
    """

    data_dir: Path
    ranking: RankingOptions
    fitting: dict[str, Any]
    cells: int = 0
    quota: int = 0
    rerank: int = 0
    keep: Keep = "none"
    shards: int = 1
    engine: Engine = "local"
    seconds: float = 0.0

    device = "cpu"

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
            searcher = self._index(query_gallery, fitting)
        quota = self.quota or CANDIDATES_PER_RESULT * depth
        from lopq.index.refine import vector_bytes

        size = searcher.model.M + vector_bytes(self.keep, gallery.shape[1])
        log.info("%d bytes per image and %d of the model", size, searcher.model.nbytes)

        def find(queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
            started = time.perf_counter()
            with lopq_errors():
                scores, ids = searcher.search(
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
        recall = measured.more[RECALL] = measured_recall(query_gallery, found_ids)
        log.info(
            "searched %d queries in %.2f s; found %.4f of the exact first %d",
            len(ids),
            self.seconds,
            recall,
            k,
        )
        return measured

    def _index(self, query_gallery: QueryGallery, fitting: dict[str, Any]) -> "LOPQSearcher":
        """Return the index of the whole database, fitted now or at an earlier run."""
        from lopq import LOPQSearcher

        path, gallery = layout.LOPQ_INDEX.at(self.data_dir), query_gallery.gallery
        valid = np.unique(layout.VALID_QUERIES.load(self.data_dir)[:, 0])
        wanted = self._fitted_on(query_gallery, fitting, valid)
        if path.is_file() and layout.LOPQ_RECORD.at(self.data_dir).exists():
            record = layout.LOPQ_RECORD.load(self.data_dir)
            if isinstance(record, dict):
                record.pop("threads", None)  # others would fit the same but for the last digits
            if record == wanted | {"index": _identity(path)}:
                log.info("%s fits this database and these options; used again", path)
                return LOPQSearcher.load(path)
            log.info("%s has other images, other options or another format: fitting again", path)
        if self.shards > 1:
            database, sha256 = query_gallery.inputs.paths[0], wanted["database_sha256"]
            model = code_shards.fitted_model(path, gallery, valid, fitting, wanted)
            job = code_shards.CodeJob.of(database, path, self.shards, model, sha256, self.keep)
            make_shards(job, self.engine)
            save = job.join
        else:
            save = fit_index(gallery, valid, fitting, self.keep).save
        # In this order, a kill in between leaves an index without a record, which is fitted again.
        layout.LOPQ_RECORD.at(self.data_dir).unlink(missing_ok=True)
        with files.whole(path) as part:
            save(part)
            wanted |= {"index": _identity(part), "threads": worker_threads()}
        layout.LOPQ_RECORD.save(self.data_dir, wanted)
        code_shards.remove(path)
        return LOPQSearcher.load(path, verify=False)

    def _fitted_on(
        self, query_gallery: QueryGallery, fitting: dict[str, Any], valid: np.ndarray
    ) -> dict[str, Any]:
        """Return all that the index depends on; ``valid`` are the rows not to train on, sorted."""
        from lopq.storage import VERSION

        fitted_on: dict[str, Any] = {
            "database_sha256": next(iter(query_gallery.inputs.sha256.values())),  # it comes first
            "valid_sha256": sha256_of_array(valid),
            "format": VERSION,
            "options": fitting,
        }
        if self.keep != "none":
            fitted_on["keep"] = self.keep
        if self.ranking.dba:
            fitted_on["dba"] = [self.ranking.dba, self.ranking.qe_alpha]
            fitted_on["allowed_sha256"] = sha256_of_array(query_gallery.is_allowed)
        return fitted_on


def measured_recall(query_gallery: QueryGallery, ids: np.ndarray) -> float:
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
    return recall_of_exact(exact, ids[rows])


def _identity(path: Path) -> str:
    """Return an identity of an index: its size, and a hash of its header."""
    return f"{path.stat().st_size} {sha256_of_header(path)}"


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
