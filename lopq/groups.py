"""Groups of cells, so that a vector is compared with the cells of a few groups only."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lopq.errors import LOPQError
from lopq.panels import Panel, panel


@dataclass(frozen=True)
class Groups:
    """Cells in groups, whose cells have consecutive numbers.

    Args:
        C: (V, dim) float32 centroids of the cells.
        tops: (n_group, dim) float32 centers of the groups.
        starts: (n_group + 1,) int64, the first cell of each group.
    """

    C: np.ndarray
    tops: np.ndarray
    starts: np.ndarray

    def check(self) -> None:
        """Raise `LOPQError` unless the groups cover the cells."""
        V, dim = self.C.shape
        starts = self.starts
        fits = self.tops.ndim == 2 and self.tops.shape == (len(starts) - 1, dim)
        if (
            not fits
            or starts.dtype.kind != "i"
            or starts[0] != 0
            or starts[-1] != V
            or (np.diff(starts) < 0).any()
        ):
            raise LOPQError(f"the groups of cells do not cover {V} cells")

    @cached_property
    def origin(self) -> np.ndarray:
        """(dim,) float32 mean of the centroids, where panels have their origin."""
        return self.C.mean(axis=0)

    @cached_property
    def top_panel(self) -> Panel:
        """The centers of the groups."""
        return panel(self.tops - self.origin)

    @cached_property
    def panels(self) -> list[Panel]:
        """The cells of each group."""
        parts = np.split(self.C - self.origin, self.starts[1:-1])
        return [panel(part) for part in parts]
