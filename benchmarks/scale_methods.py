"""The indexes that bench_lopq_scale compares: filled from one stream of blocks, same cells for all.

All have the coarse centroids of the LOPQ model, so that none gains by better cells. faiss's codes
are those that faiss would write; `lopq.encoding` finds them several times faster.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import faiss
import numpy as np

from lopq import LOPQModel, LOPQSearcher
from lopq.codebooks import Codebooks
from lopq.database import Database
from lopq.encoding import nearest_entries, rotate_rows
from lopq.lists import CellLists

Search = Callable[[np.ndarray, int], np.ndarray]  # queries, effort -> (n_query, 10) ids

PROBES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
TRAINING_ROWS = 100_000  # of faiss's codebooks
ROTATION_ROWS = 30_000  # of faiss's OPQ, whose rounds are slow


class Encoder(Protocol):
    """Turns rows of known cells into codes."""

    name: str

    @property
    def code_bytes(self) -> int: ...

    def encode(self, rows: np.ndarray, cells: np.ndarray) -> np.ndarray: ...

    def index(self, cells: np.ndarray, codes: np.ndarray) -> tuple[Search, int]: ...


@dataclass
class Filling:
    """A method while the blocks pass by.

    Attributes:
        method: The encoder.
        codes: (n, code_bytes) uint8, filled block by block.
        fit_seconds: Seconds of training beyond the cells.
        encode_seconds: Seconds of encoding so far, without finding the cells.
    """

    method: Encoder
    codes: np.ndarray
    fit_seconds: float = 0.0
    encode_seconds: float = 0.0

    def see(self, first: int, rows: np.ndarray, cells: np.ndarray) -> None:
        started = time.perf_counter()
        self.codes[first : first + len(rows)] = self.method.encode(rows, cells)
        self.encode_seconds += time.perf_counter() - started


@dataclass
class Lopq:
    """LOPQ codes of 16 bytes."""

    model: LOPQModel
    name: str = "LOPQ"
    code_bytes: int = 16

    def encode(self, rows: np.ndarray, cells: np.ndarray) -> np.ndarray:
        quantizer = self.model.quantizer
        return quantizer.codebooks.encode(quantizer.project(rows, cells[:, None]))

    def searcher(self, cells: np.ndarray, codes: np.ndarray) -> LOPQSearcher:
        """Return the filled index."""
        searcher = LOPQSearcher(self.model)
        lists = CellLists.sort(cells, codes, np.arange(len(cells)))
        searcher.database = Database.of(lists)
        return searcher

    def index(self, cells: np.ndarray, codes: np.ndarray) -> tuple[Search, int]:
        searcher = self.searcher(cells, codes)
        per_cell = len(cells) / self.model.V

        def search(queries: np.ndarray, probes: int) -> np.ndarray:
            return searcher.search_batch(
                queries, 10, quota=max(10, int(per_cell * (probes - 0.5)))
            )[1]

        return search, self.model.nbytes


@dataclass
class ProductCodes:
    """faiss's IndexIVFPQ, or IndexIVFPQFastScan with 4 bits; by residuals.

    Attributes:
        C: (V, dim) float32 centroids.
        codebooks: Codebooks of the (rotated) residuals.
        rotation: (dim, dim) float32 rotation of residuals, trained on residuals; None: none.
    """

    name: str
    C: np.ndarray
    codebooks: Codebooks
    rotation: np.ndarray | None = None

    @property
    def code_bytes(self) -> int:
        return self.codebooks.code_bytes

    @classmethod
    def train(
        cls, name: str, C: np.ndarray, residuals: np.ndarray, M: int, bits: int, rounds: int
    ) -> "ProductCodes":
        """Train codebooks, after a rotation by faiss's OPQ of ``rounds`` rounds if above 0."""
        dim = C.shape[1]
        residuals, rotation = residuals[:TRAINING_ROWS], None
        if rounds:
            opq: Any = faiss.OPQMatrix(dim, M)
            opq.niter = rounds
            opq.train(residuals[:ROTATION_ROWS])
            rotation = faiss.vector_to_array(opq.A).reshape(dim, dim)
            residuals = opq.apply(residuals)
        pq: Any = faiss.ProductQuantizer(dim, M, bits)
        pq.train(residuals)
        shape = (M, 2**bits, dim // M)
        return cls(
            name, C, Codebooks(faiss.vector_to_array(pq.centroids).reshape(shape), bits), rotation
        )

    def _rotated(self, rows: np.ndarray) -> np.ndarray:
        if self.rotation is None:
            return rows
        return rotate_rows(rows, np.zeros(len(rows), np.int64), self.rotation[None])

    def encode(self, rows: np.ndarray, cells: np.ndarray) -> np.ndarray:
        return self.codebooks.pack(
            nearest_entries(self._rotated(rows - self.C[cells]), self.codebooks.centroids)
        )

    def index(self, cells: np.ndarray, codes: np.ndarray) -> tuple[Search, int]:
        V, dim = self.C.shape
        quantizer = faiss.IndexFlatL2(dim)
        quantizer.add(self._rotated(self.C))
        M, bits = self.codebooks.M, self.codebooks.bits
        index: Any = faiss.IndexIVFPQ(quantizer, dim, V, M, bits)
        faiss.copy_array_to_vector(self.codebooks.centroids.ravel(), index.pq.centroids)
        index.is_trained = True
        index.precompute_table()
        lists = CellLists.sort(cells, codes, np.arange(len(cells)))
        for slot, cell in enumerate(lists.cells.tolist()):
            rows = slice(int(lists.offsets[slot]), int(lists.offsets[slot + 1]))
            ids, part = lists.ids[rows], np.ascontiguousarray(lists.codes[rows])
            index.invlists.add_entries(cell, len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(part))
        index.ntotal = len(cells)
        if bits == 4:
            index = faiss.IndexIVFPQFastScan(index)
        kept = [quantizer, index]

        def search(queries: np.ndarray, probes: int) -> np.ndarray:
            kept[1].nprobe = probes
            return kept[1].search(self._rotated(queries), 10)[1]

        model = self.C.nbytes + self.codebooks.centroids.nbytes
        return search, model + (self.rotation.nbytes if self.rotation is not None else 0)


@dataclass
class RaBitQ:
    """faiss's IndexIVFRaBitQ after a random rotation: a bit per dimension and 8 bytes."""

    C: np.ndarray
    name: str = "faiss IVF,RaBitQ"
    rotation: Any = field(init=False)
    coder: Any = field(init=False)
    code_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        dim = self.C.shape[1]
        self.rotation = faiss.RandomRotationMatrix(dim, dim)
        self.rotation.init(7)
        self.quantizer = faiss.IndexFlatL2(dim)
        self.quantizer.add(self.rotation.apply(self.C))
        self.coder = faiss.IndexIVFRaBitQ(self.quantizer, dim, len(self.C), faiss.METRIC_L2)
        self.coder.is_trained = True
        self.code_bytes = int(self.coder.code_size)

    def encode(self, rows: np.ndarray, cells: np.ndarray) -> np.ndarray:
        codes = np.empty((len(rows), self.code_bytes), np.uint8)
        rotated = self.rotation.apply(rows)
        pointers = (faiss.swig_ptr(rotated), faiss.swig_ptr(np.ascontiguousarray(cells)))
        self.coder.encode_vectors(len(rows), *pointers, faiss.swig_ptr(codes))
        return codes

    def index(self, cells: np.ndarray, codes: np.ndarray) -> tuple[Search, int]:
        lists = CellLists.sort(cells, codes, np.arange(len(cells)))
        for slot, cell in enumerate(lists.cells.tolist()):
            rows = slice(int(lists.offsets[slot]), int(lists.offsets[slot + 1]))
            ids, part = lists.ids[rows], np.ascontiguousarray(lists.codes[rows])
            pointers = (faiss.swig_ptr(ids), faiss.swig_ptr(part))
            self.coder.invlists.add_entries(cell, len(ids), *pointers)
        self.coder.ntotal = len(cells)

        def search(queries: np.ndarray, probes: int) -> np.ndarray:
            self.coder.nprobe = probes
            return self.coder.search(self.rotation.apply(queries), 10)[1]

        return search, self.C.nbytes
