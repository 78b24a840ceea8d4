"""Centroids in columns, as the compiled loops compare vectors with them."""

import numpy as np

from lopq.threads import frozen

Panel = tuple[np.ndarray, np.ndarray]  # as `panel` returns
PANEL = 64  # cells in a panel of the search: they fit into the first cache


def panel(points: np.ndarray) -> Panel:
    """Return points (n, dim) as columns (dim, n), and half their squared norms (n,)."""
    return frozen(points.T), frozen((points * points).sum(axis=1) / 2)


def search_panels(C: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the panels that a search compares a query with, for centroids C (S, V, dim).

    Returns:
        origins: (S, dim) float32.
        panels: (S, n, dim, PANEL) float32, filled up with zeros.
        halves: (S, n, PANEL) float32, filled up with infinity.
    """
    n_split, V, dim = C.shape
    n = -(-V // PANEL)
    origins = C.mean(axis=1)
    panels = np.zeros((n_split, n, dim, PANEL), np.float32)
    halves = np.full((n_split, n, PANEL), np.inf, np.float32)
    for split in range(n_split):
        for i in range(n):
            part = C[split, i * PANEL : (i + 1) * PANEL] - origins[split]
            panels[split, i, :, : len(part)], halves[split, i, : len(part)] = panel(part)
    return origins, panels, halves
