"""The indexes to compare, all filled from one stream of blocks.

Those with cells have the cells of one LOPQ model, so that none gains by better cells; an index from
a faiss factory string trains its own. faiss's product codes are those that faiss would write;
`lopq.quantizer` finds them several times faster.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from lopq import LOPQModel, LOPQSearcher
from lopq.codes import CodeFormat
from lopq.index.inverted_lists import InvertedLists, Rows
from lopq.index.refine import Keep, vector_bytes
from lopq.index.snapshot import Snapshot
from lopq.quantizer import nearest_entries, rotate

K = 10
# Maps queries and an effort to (n_query, K) ids; the effort is a number of cells to visit, or
# of candidates of a graph.
Search = Callable[[np.ndarray, int], np.ndarray]

PROBES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
CANDIDATES = (10, 16, 24, 32, 48, 64, 96, 128, 256)
TRAINING_ROWS = 100_000  # of faiss's codebooks
ROTATION_ROWS = 30_000  # of faiss's OPQ, whose rounds are slow


class Method(ABC):
    """An index that is filled block by block, then searched.

    Attributes:
        name: Name in the results.
        code_bytes: Bytes per vector, without its id and its share of the model.
        fit_seconds: Seconds of training.
        add_seconds: Seconds of encoding so far.
    """

    name: str
    code_bytes: int
    fit_seconds: float = 0.0
    add_seconds: float = 0.0
    takes_inputs = False  # vectors before the projection

    def prepare(self, n_row: int, path: Path) -> None:  # noqa: B027  most methods need nothing
        """Make room for the codes of ``n_row`` vectors, in a file if need be."""

    @abstractmethod
    def add(self, first: int, rows: np.ndarray, cells: np.ndarray) -> None:
        """Add vectors (n, dim) of known cells, whose ids start at ``first``."""

    @abstractmethod
    def index(self, cells: np.ndarray) -> tuple[Search, int]:
        """Return the search, and the bytes of the model; all vectors were added."""

    def efforts(self, n_cell: int) -> list[int]:
        """Return the efforts to measure, ascending; the last one visits all it can."""
        return sorted({n for n in PROBES if n <= n_cell} | ({n_cell} if n_cell <= 64 else set()))


class CodeMethod(Method):
    """An index of codes, which are kept in a file until all are there."""

    codes: np.ndarray

    def prepare(self, n_row: int, path: Path) -> None:
        shape = n_row, self.code_bytes
        self.codes = np.lib.format.open_memmap(path, "w+", np.uint8, shape)

    @abstractmethod
    def encode(self, rows: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Return the codes (n, code_bytes) uint8 of vectors of known cells."""

    def add(self, first: int, rows: np.ndarray, cells: np.ndarray) -> None:
        self.codes[first : first + len(rows)] = self.encode(rows, cells)

    def lists(self, cells: np.ndarray) -> InvertedLists:
        nothing = np.zeros((len(cells), 0), np.uint8)
        return InvertedLists.sort(Rows(cells, self.codes, np.arange(len(cells)), nothing))

    def fill(self, cells: np.ndarray, invlists: Any) -> None:
        """Copy the codes into the lists of a faiss index."""
        lists = self.lists(cells)
        for slot, cell in enumerate(lists.cells.tolist()):
            rows = slice(int(lists.offsets[slot]), int(lists.offsets[slot + 1]))
            ids, part = lists.ids[rows], np.ascontiguousarray(lists.codes[rows])
            invlists.add_entries(cell, len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(part))


def fit(train: np.ndarray, cells: int, M: int, **options: Any) -> tuple[LOPQModel, float]:
    """Return a LOPQ model and its seconds of training; equal cells for equal vectors."""
    model = LOPQModel(cells, M, **{"pca_dim": None, **options})
    started = time.perf_counter()
    model.fit(train)
    return model, time.perf_counter() - started


class Lopq(CodeMethod):
    """LOPQ codes."""

    def __init__(self, name: str, model: LOPQModel, fit_seconds: float) -> None:
        self.name, self.model, self.fit_seconds = name, model, fit_seconds
        self.code_bytes = model.format.code_bytes

    def encode(self, rows: np.ndarray, cells: np.ndarray) -> np.ndarray:
        quantizer = self.model.quantizer
        return quantizer.fine_codes(quantizer.rotated_residuals(rows, cells[:, None]))

    def index(self, cells: np.ndarray) -> tuple[Search, int]:
        searcher = LOPQSearcher(self.model)
        searcher.snapshot = Snapshot.of(self.lists(cells))
        return _lopq_search(searcher, len(cells)), self.model.nbytes


class Reranked(Method):
    """LOPQ codes whose best candidates are scored again, from vectors outside or in the index.

    Args:
        name: Name in the results.
        model: A model that takes the unprojected vectors.
        fit_seconds: Seconds of its training.
        keep: How the index keeps the vectors; "none": they stay outside, in float32.
        rerank: Candidates to score again.
    """

    takes_inputs = True

    def __init__(
        self, name: str, model: LOPQModel, fit_seconds: float, keep: Keep, rerank: int = 100
    ) -> None:
        self.name, self.fit_seconds, self.rerank = name, fit_seconds, rerank
        self.searcher, self.outside = LOPQSearcher(model, keep), keep == "none"
        dim = model.dim_in
        assert dim is not None
        self.code_bytes = model.format.code_bytes
        self.code_bytes += 4 * dim if self.outside else int(vector_bytes(keep, dim))
        self.vectors: list[np.ndarray] = []

    def add(self, first: int, rows: np.ndarray, cells: np.ndarray) -> None:
        self.searcher.add_data(rows, np.arange(first, first + len(rows)))
        if self.outside:
            self.vectors.append(rows)

    def index(self, cells: np.ndarray) -> tuple[Search, int]:
        vectors = np.concatenate(self.vectors) if self.outside else None
        search = _lopq_search(self.searcher, len(cells), rerank=self.rerank, vectors=vectors)
        return search, self.searcher.model.nbytes


def _lopq_search(searcher: LOPQSearcher, n_row: int, **options: Any) -> Search:
    V = searcher.model.V

    def search(queries: np.ndarray, probes: int) -> np.ndarray:
        least = max(K, options.get("rerank", 0))
        quota = None if probes >= V else max(least, int(n_row / V * (probes - 0.5)))
        return searcher.search(queries, K, quota=quota, **options)[1]

    return search


class ProductCodes(CodeMethod):
    """faiss's IndexIVFPQ, or IndexIVFPQFastScan with 4 bits; by residuals.

    Args:
        name: Name in the results.
        C: (V, dim) float32 centroids.
        residuals: (n, dim) float32 training vectors less their centroids.
        M: Subspaces.
        bits: Bits per subspace, 8 or 4.
        rounds: Rounds of faiss's OPQ, trained on the residuals; 0: no rotation.
    """

    def __init__(
        self, name: str, C: np.ndarray, residuals: np.ndarray, M: int, bits: int, rounds: int
    ) -> None:
        started, dim = time.perf_counter(), C.shape[1]
        self.name, self.C = name, C
        residuals, self.rotation = residuals[:TRAINING_ROWS], None
        if rounds:
            opq: Any = faiss.OPQMatrix(dim, M)
            opq.niter = rounds
            opq.train(residuals[:ROTATION_ROWS])
            self.rotation = faiss.vector_to_array(opq.A).reshape(dim, dim)
            residuals = opq.apply(residuals)
        pq: Any = faiss.ProductQuantizer(dim, M, bits)
        pq.train(residuals)
        self.codebooks = faiss.vector_to_array(pq.centroids).reshape(M, 2**bits, dim // M)
        self.format = CodeFormat(len(C), M, 2**bits, n_split=1, bits=bits)
        self.code_bytes = self.format.code_bytes
        self.fit_seconds = time.perf_counter() - started

    def _rotated(self, rows: np.ndarray) -> np.ndarray:
        if self.rotation is None:
            return rows
        return rotate(rows, np.zeros(len(rows), np.int64), self.rotation[None])

    def encode(self, rows: np.ndarray, cells: np.ndarray) -> np.ndarray:
        residuals = self._rotated(rows - self.C[cells])
        return self.format.pack(nearest_entries(residuals, self.codebooks))

    def index(self, cells: np.ndarray) -> tuple[Search, int]:
        V, dim = self.C.shape
        quantizer = faiss.IndexFlatL2(dim)
        quantizer.add(self._rotated(self.C))
        M, bits = self.format.M, self.format.bits
        index: Any = faiss.IndexIVFPQ(quantizer, dim, V, M, bits)
        faiss.copy_array_to_vector(self.codebooks.ravel(), index.pq.centroids)
        index.is_trained = True
        index.precompute_table()
        self.fill(cells, index.invlists)
        index.ntotal = len(cells)
        if bits == 4:
            index = faiss.IndexIVFPQFastScan(index)
        kept = [quantizer, index]

        def search(queries: np.ndarray, probes: int) -> np.ndarray:
            kept[1].nprobe = probes
            return kept[1].search(self._rotated(queries), K)[1]

        model = self.C.nbytes + self.codebooks.nbytes
        return search, model + (0 if self.rotation is None else self.rotation.nbytes)


class RaBitQ(CodeMethod):
    """faiss's IndexIVFRaBitQ after a random rotation: a bit per dimension and 8 bytes."""

    name = "faiss IVF,RaBitQ"

    def __init__(self, C: np.ndarray) -> None:
        self.C, dim = C, C.shape[1]
        self.rotation: Any = faiss.RandomRotationMatrix(dim, dim)
        self.rotation.init(7)
        self.quantizer = faiss.IndexFlatL2(dim)
        self.quantizer.add(self.rotation.apply(C))
        self.coder: Any = faiss.IndexIVFRaBitQ(self.quantizer, dim, len(C), faiss.METRIC_L2)
        self.coder.is_trained = True
        self.code_bytes = int(self.coder.code_size)

    def encode(self, rows: np.ndarray, cells: np.ndarray) -> np.ndarray:
        codes = np.empty((len(rows), self.code_bytes), np.uint8)
        rotated = self.rotation.apply(rows)
        pointers = (faiss.swig_ptr(rotated), faiss.swig_ptr(np.ascontiguousarray(cells)))
        self.coder.encode_vectors(len(rows), *pointers, faiss.swig_ptr(codes))
        return codes

    def index(self, cells: np.ndarray) -> tuple[Search, int]:
        self.fill(cells, self.coder.invlists)
        self.coder.ntotal = len(cells)

        def search(queries: np.ndarray, probes: int) -> np.ndarray:
            self.coder.nprobe = probes
            return self.coder.search(self.rotation.apply(queries), K)[1]

        return search, self.C.nbytes


class Factory(Method):
    """The faiss index of a factory string, with cells of its own or a graph."""

    def __init__(self, description: str, train: np.ndarray) -> None:
        started = time.perf_counter()
        self.name = f"faiss {description}"
        self.faiss: Any = faiss.index_factory(train.shape[1], description)
        self.faiss.train(train)
        self.fit_seconds = time.perf_counter() - started
        self.model_bytes = faiss.serialize_index(self.faiss).nbytes
        self.is_graph = description.startswith("HNSW")
        self.code_bytes = 4 * train.shape[1] if self.is_graph else self._ivf().code_size

    def _ivf(self) -> Any:
        return faiss.extract_index_ivf(self.faiss)

    def add(self, first: int, rows: np.ndarray, cells: np.ndarray) -> None:
        self.faiss.add(np.ascontiguousarray(rows))

    def efforts(self, n_cell: int) -> list[int]:
        return list(CANDIDATES) if self.is_graph else super().efforts(self._ivf().nlist)

    def index(self, cells: np.ndarray) -> tuple[Search, int]:
        if self.is_graph:  # the links of a vector count as its code
            links = 4 * self.faiss.hnsw.neighbors.size() / len(cells)
            self.code_bytes, self.model_bytes = self.code_bytes + round(links), 0

        def search(queries: np.ndarray, effort: int) -> np.ndarray:
            if self.is_graph:
                self.faiss.hnsw.efSearch = effort
            else:
                self._ivf().nprobe = effort
            return self.faiss.search(np.ascontiguousarray(queries), K)[1]

        return search, self.model_bytes
