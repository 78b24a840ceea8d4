"""The model: PCA, a coarse quantizer with local rotations, and product codebooks."""

from pathlib import Path
from typing import Any

import numpy as np

from lopq import legacy, storage
from lopq.coder import Coder
from lopq.codes import CodeFormat
from lopq.errors import LOPQError, as_count, as_vectors, check_axes
from lopq.parameters import Given, Parameters, split_parameters
from lopq.quantizer import Quantizer, fit_quantizer
from lopq.sampling import training_rows
from lopq.split import ROTATIONS, Training

OPTIONS = (
    *("V", "M", "subquantizer_clusters", "rotation", "rotations"),
    *("bits", "pca_dim", "renorm", "seed"),
)


class LOPQModel(Coder):
    """Locally optimized product quantization (Kalantidis, Avrithis, CVPR 2014).

    The positional arguments are those of the old ``lopq`` package. Its models always have two
    splits; pass ``split="multi"`` for that.

    Args:
        V: Cells per split.
        M: Subspaces; a code takes M * bits / 8 bytes, rounded up.
        subquantizer_clusters: Entries per codebook, 1 to 256; at most 16 with ``bits=4``.
        parameters: (Cs, Rs, mus, subs), each a sequence with one array per split, or None to
            leave that part to `fit`: C (V, dim), R (V, dim, dim), mu (V, dim) and
            subs (M / n_split, subquantizer_clusters, dim_sub). Their shapes override V, M and
            subquantizer_clusters, and the number of arrays overrides split.
        split: "single" (V cells) or "multi" (two halves of the dimensions, V * V cells).
        rotation: "pca" rotates each cell to its principal axes, balanced over the subspaces;
            "procrustes" starts there and learns each cell's rotation together with the codebooks;
            "global" learns one rotation for all cells (OPQ on the residuals); "none" does not
            rotate.
        rotations: Rotations to find with "pca" and "procrustes"; cells near each other share one.
            None finds one per cell. A rotation takes 4 * dim**2 bytes.
        bits: Bits per subquantizer, 8 or 4.
        pca_dim: Reduce vectors with more dimensions than this by PCA; None never reduces. Ignored
            when parameters are given.
        renorm: L2-normalize vectors after the PCA.
        seed: Random seed; equal seeds, data and numbers of threads give equal models.

    Raises:
        LOPQError: An option out of range, or parameters whose shapes disagree.
    """

    def __init__(
        self,
        V: int = 8,
        M: int = 4,
        subquantizer_clusters: int = 256,
        parameters: Parameters | None = None,
        *,
        split: str = "single",
        rotation: str = "pca",
        rotations: int | None = None,
        bits: int = 8,
        pca_dim: int | None = 256,
        renorm: bool = False,
        seed: int = 0,
    ) -> None:
        for name, value, choices in (
            ("split", split, ("single", "multi")),
            ("rotation", rotation, ROTATIONS),
            ("bits", bits, (8, 4)),
        ):
            if value not in choices:
                expected = ", ".join(map(repr, choices))
                raise LOPQError(f"{name} must be one of {expected}; got {value!r}")
        self.rotation, self.bits, self.renorm = str(rotation), int(bits), bool(renorm)
        self.seed = as_count(seed, "seed", 0)
        self.rotations = None if rotations is None else as_count(rotations, "rotations")
        V, M = as_count(V, "V"), as_count(M, "M")
        clusters = as_count(subquantizer_clusters, "subquantizer_clusters", 1, 256)
        n_entry = min(clusters, 2**self.bits)
        self.pca_dim = None if pca_dim is None else as_count(pca_dim, "pca_dim")
        given = [] if parameters is None else split_parameters(parameters, self.bits)
        self._given = given or [Given()] * (1 if split == "single" else 2)
        n_split = len(self._given)
        if given:
            self.pca_dim = None
            V = given[0].V or V
            if given[0].subs is not None:
                M, n_entry = n_split * len(given[0].subs), given[0].subs.shape[1]
        if M % n_split:
            raise LOPQError(f"two splits need an even number of subspaces; got M={M}")
        complete = [part.as_split() for part in self._given]
        splits = tuple(part for part in complete if part is not None)
        quantizer = None
        if len(splits) == n_split:
            quantizer = Quantizer(splits, self.bits, sum(part.dim for part in splits))
        super().__init__(CodeFormat(V, M, n_entry, n_split), quantizer)

    @property
    def nbytes(self) -> int:
        """Size of the parameters in bytes; a rotation that cells share counts once."""
        return sum(array.nbytes for array in self.quantizer.arrays().values())

    @property
    def training_errors(self) -> tuple[list[float], ...]:
        """Mean squared training error before each iteration of rotation training, per split."""
        return tuple(split.errors for split in self.quantizer.splits)

    def fit(
        self,
        data: np.ndarray,
        kmeans_coarse_iters: int = 20,
        kmeans_local_iters: int = 20,
        n_init: int = 1,
        subquantizer_sample_ratio: float = 1.0,
        random_state: int | None = None,
        verbose: bool | None = None,
        n_jobs: int = 1,
        *,
        rotation_iters: int = 25,
        train_size: int | None = -1,
    ) -> None:
        """Fit the missing parameters. A complete model is left unchanged.

        Args:
            data: (n, dim_in) real numbers, array or memory map.
            kmeans_coarse_iters: k-means iterations of the coarse quantizer.
            kmeans_local_iters: k-means iterations of the codebooks, with fixed rotations.
            n_init: Restarts of both.
            subquantizer_sample_ratio: Fraction of the training vectors to use, above 0, up to 1.
                (The old package sampled for the codebooks only, after projecting all vectors.)
            random_state: Replaces the model's seed.
            verbose: True or False shows or hides the progress bar; None shows it on a terminal.
            n_jobs: Ignored; ``faiss.omp_set_num_threads`` sets the number of threads.
            rotation_iters: Iterations of rotation="procrustes" and "global".
            train_size: Number of training vectors, sampled at random; None uses all; -1 uses
                100,000, or 256 per cell if that is more, up to 1,048,576.

        Raises:
            LOPQError: Fewer vectors than cells, NaN or infinite values, a wrong shape or dtype, or
                an option out of range.
        """
        if self._quantizer is not None:
            return
        if random_state is not None:
            self.seed = as_count(random_state, "random_state", 0)
        training = Training(
            rotation=self.rotation,
            rotations=self.rotations,
            bits=self.bits,
            coarse_iterations=as_count(kmeans_coarse_iters, "kmeans_coarse_iters"),
            local_iterations=as_count(kmeans_local_iters, "kmeans_local_iters"),
            rotation_iterations=as_count(rotation_iters, "rotation_iters"),
            n_init=as_count(n_init, "n_init"),
            seed=self.seed,
            progress=verbose,
        )
        check_axes(data, "data")
        if 0 in np.shape(data):
            raise LOPQError(f"data must be (n, dim), not empty; got shape {np.shape(data)}")
        ratio = subquantizer_sample_ratio
        chosen = training_rows(len(data), self.V, self.seed, train_size, ratio)
        rows = as_vectors(data if chosen is None else np.asarray(data)[chosen], "data")
        self._quantizer = fit_quantizer(
            rows, self._given, self.format, training, self.pca_dim, self.renorm
        )

    def header(self) -> dict[str, Any]:
        """Return the options and sizes that a saved file holds beside the arrays."""
        options = {name: getattr(self, name) for name in OPTIONS}
        return {
            **options,
            "dim_in": self.dim_in,
            "training_errors": list(self.training_errors),
        }

    @classmethod
    def restored(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> "LOPQModel":
        """Rebuild a model from its `header` and the arrays of its quantizer."""
        header = {"rotations": None, **header}  # older files have none
        options, errors = {name: header[name] for name in OPTIONS}, header["training_errors"]
        model = cls(**options, split="single" if len(errors) == 1 else "multi")
        model._quantizer = Quantizer.from_arrays(
            arrays, errors, model.bits, header["dim_in"], model.renorm
        )
        return model

    def save(self, path: str | Path) -> None:
        """Write the model atomically to one file; `lopq.storage` describes the format."""
        storage.write(path, "model", self.header(), self.quantizer.arrays())

    @classmethod
    def load(cls, path: str | Path) -> "LOPQModel":
        """Read a model that `save` wrote."""
        content = storage.read(path, "model")
        with storage.naming(path):
            return cls.restored(*content)

    @classmethod
    def load_proto(cls, path: str | Path) -> "LOPQModel":
        """Read a model of the old package from its protobuf file (``.lopq``)."""
        parameters, sizes = legacy.read_proto(path)
        return cls(parameters=parameters, **sizes)

    @classmethod
    def load_mat(cls, path: str | Path) -> "LOPQModel":
        """Read a model of the old package from its ``.mat`` file."""
        return cls(parameters=legacy.read_mat(path))
