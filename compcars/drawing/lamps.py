"""The outlines of headlamps and taillamps."""

from dataclasses import dataclass

import numpy as np

from compcars.drawing.surfaces import Region, Surface, region

# Lower and upper edge from the inner to the outer end, as fractions of the lamp's height.
LAMPS: dict[str, tuple[list[float], list[float]]] = {
    "blade": ([0.42, 0.22, 0.10, 0.06, 0.18], [0.52, 0.62, 0.70, 0.80, 0.90]),
    "block": ([0.04, 0.0, 0.0, 0.0, 0.04], [0.96, 1.0, 1.0, 1.0, 0.96]),
    "drop": ([0.40, 0.10, 0.0, 0.12, 0.62], [0.55, 0.80, 0.95, 1.05, 1.00]),
    "claw": ([-0.20, 0.10, 0.34, 0.46, 0.56], [0.45, 0.70, 0.84, 0.95, 1.05]),
    "wedge": ([0.0, 0.04, 0.10, 0.22, 0.40], [0.60, 0.78, 0.90, 1.0, 1.06]),
    "hook": ([0.55, 0.50, 0.30, -0.15, -0.25], [0.85, 0.92, 1.0, 1.05, 1.05]),
    "round": ([0.5, 0.12, 0.02, 0.0, 0.02, 0.12, 0.5], [0.5, 0.88, 0.98, 1.0, 0.98, 0.88, 0.5]),
}


@dataclass(frozen=True)
class Lamp:
    """The outline of a pair of lamps: q as a fraction of the half width, v of the height."""

    shape: str  # one of LAMPS
    inner: float  # q
    outer: float  # q; above 1: wraps around the corner
    low: float  # v
    height: float  # v
    slant: float  # rise from the inner to the outer end, v

    def on(self, surface: Surface) -> Region:
        """Return the lamp on the side of positive q."""
        low, high = (
            self.low + self.height * np.array(edge) + np.linspace(0, self.slant, len(edge))
            for edge in LAMPS[self.shape]
        )
        return region(surface, self.inner, self.outer, low, high)
