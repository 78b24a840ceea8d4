"""Quads with a material and a drawing layer."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from compcars.drawing.surfaces import Region


class Material(IntEnum):
    """Material of a quad; lighting.py defines its look."""

    PAINT = 0
    TRIM = 1  # black or gray plastic
    GLASS = 2
    CHROME = 3
    LENS = 4  # the clear cover of a headlamp
    REFLECTOR = 5
    DAYLIGHT = 6  # daytime running light
    AMBER = 7
    RED = 8
    DEEP_RED = 9
    RUBBER = 10
    RIM = 11
    GAP = 12  # shut lines, air intakes, wheel arches
    PLATE = 13
    PLATE_INK = 14
    BADGE = 15
    BELLY = 16  # the underside, always in the shade
    INTERIOR = 17


class Layer(IntEnum):
    """Drawing order of the parts, lowest layer first.

    There is no depth test: a body is nearly convex, so it is enough to cull the quads that face
    away from the camera and to draw the rest in this order.
    """

    BEHIND = 0  # inner wheels, underside, and parts of the far flank
    BODY = 1
    LID = 2
    ON_BODY = 3
    GLASSHOUSE = 4
    ON_GLASSHOUSE = 5
    OUTSIDE = 6  # mirrors, roof rails


@dataclass(frozen=True)
class Mesh:
    """Quads in drawing order."""

    corners: np.ndarray  # (n, 4, 3) meters
    normals: np.ndarray  # (n, 3) unit length, outward
    material: np.ndarray  # (n,) int
    layer: np.ndarray  # (n,) int
    side: np.ndarray  # (n,) int, 1: part of the left flank, -1: of the right flank, 0: of neither

    @property
    def middles(self) -> np.ndarray:
        return self.corners.mean(axis=1)


class Builder:
    """Collects the quads of a car."""

    def __init__(self) -> None:
        self._quads: list[np.ndarray] = []
        self._tags: list[tuple[int, int, int]] = []

    def add(self, quads: np.ndarray, material: Material, layer: Layer, side: int = 0) -> None:
        self._quads.append(quads)
        self._tags.extend([(material, layer, side)] * len(quads))

    def patch(
        self,
        region: Region,
        material: Material,
        layer: Layer = Layer.ON_BODY,
        grid: tuple[int, int] = (6, 1),
        both: bool = False,
        flank: bool = False,
    ) -> None:
        """Add a region, cut into ``grid`` columns and rows.

        ``both`` also adds its mirror image. ``flank`` does so too, and marks the two as parts of
        the left and right flank.
        """
        self.add(region.quads(*grid), material, layer, int(flank))
        if both or flank:
            self.add(region.mirrored().quads(*grid), material, layer, -int(flank))

    def mesh(self) -> Mesh:
        corners = np.concatenate(self._quads)
        tags = np.array(self._tags)
        order = np.argsort(tags[:, 1], kind="stable")
        corners, tags = corners[order], tags[order]
        return Mesh(corners, _normals(corners), tags[:, 0], tags[:, 1], tags[:, 2])


def _normals(corners: np.ndarray) -> np.ndarray:
    """Return the unit normals of quads, from their diagonals; (0, 0, 1) if degenerate."""
    normals = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(lengths > 1e-12, normals / np.maximum(lengths, 1e-12), [0.0, 0.0, 1.0])
