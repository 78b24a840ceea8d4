"""Wheels, wheel arches and the dark underside."""

import numpy as np

from compcars.drawing.designs import Design, Wheels
from compcars.drawing.mesh import Builder, Layer, Material
from compcars.drawing.surfaces import Shell, grid_quads

TREAD = 0.22  # width of a tire, meters


def add(builder: Builder, design: Design, shell: Shell) -> None:
    """Add four wheels with their arches, and the underside."""
    b = design.body
    _add_belly(builder, design)
    for x in (b.length / 2 - b.front_overhang, b.rear_overhang - b.length / 2):
        outside = float(shell.side_y(np.array(x), np.array(b.wheel))) - 0.005
        for side in (1, -1):
            _add_tread(builder, x, side, outside, b.wheel)
            _add_arch(builder, design, shell, x, side)
            _add_face(builder, design.wheels, x, side * outside, b.wheel)


def _ring(x: float, y: float, z: float, inner: float, outer: float, steps: int = 24) -> np.ndarray:
    """Return a flat ring of quads in the plane of constant y, facing +y if y is positive."""
    angle = np.linspace(0, 2 * np.pi, steps + 1) * np.sign(y)
    radius = np.array([inner, outer])[:, None]
    points = np.stack(
        [x + radius * np.cos(angle), np.full((2, steps + 1), y), z + radius * np.sin(angle)],
        axis=-1,
    )
    return grid_quads(points)


def _add_face(builder: Builder, wheels: Wheels, x: float, y: float, radius: float) -> None:
    side = int(np.sign(y))
    rim = 0.70 * radius
    builder.add(_ring(x, y, radius, rim, radius), Material.RUBBER, Layer.ON_BODY, side)
    builder.add(_ring(x, y, radius, 0.0, rim), Material.GAP, Layer.ON_BODY, side)
    metal = Material.TRIM if wheels.dark else Material.RIM
    builder.add(_ring(x, y, radius, 0.90 * rim, rim), metal, Layer.ON_BODY, side)
    turns = np.arange(wheels.spokes) * 2 * np.pi / wheels.spokes + np.pi / 2
    half = np.pi / wheels.spokes * wheels.spread
    offsets = (-0.55, 0.55) if wheels.twin else (0.0,)
    half = half / 2 if wheels.twin else half
    for turn in (turns[:, None] + np.array(offsets) * np.pi / wheels.spokes).ravel():
        hub = 2 * half * wheels.taper
        corners = [(0.15, -hub), (0.15, hub), (0.92, half), (0.92, -half)]
        points = [
            (x + side * rim * r * np.cos(turn + a), y, radius + rim * r * np.sin(turn + a))
            for r, a in corners
        ]
        builder.add(np.array([points]), metal, Layer.ON_BODY, side)
    builder.add(_ring(x, y, radius, 0.0, 0.2 * rim, 10), metal, Layer.ON_BODY, side)


def _add_tread(builder: Builder, x: float, side: int, outside: float, radius: float) -> None:
    angle = np.linspace(0, 2 * np.pi, 21)
    y = side * np.array([outside, outside - TREAD])[:, None] * np.ones_like(angle)
    across = np.stack(
        [x + radius * np.cos(angle) + 0 * y, y, radius + radius * np.sin(angle) + 0 * y], axis=-1
    )
    quads = grid_quads(across)
    builder.add(quads if side > 0 else quads[:, ::-1], Material.RUBBER, Layer.BEHIND)
    inner = _ring(x, -side * 1.0, radius, 0.0, radius)
    inner[..., 1] = side * (outside - TREAD)
    builder.add(inner, Material.BELLY, Layer.BEHIND)


def _add_arch(builder: Builder, design: Design, shell: Shell, x: float, side: int) -> None:
    b = design.body
    lips = [(1.30, Material.TRIM)] if design.flank.cladding else [(1.19, Material.PAINT)]
    for size, material in [*lips, (1.14, Material.GAP)]:
        angle = np.linspace(0, np.pi, 21)
        rim = np.stack(
            [x + size * b.wheel * np.cos(angle), b.wheel + size * b.wheel * np.sin(angle)]
        )
        foot = np.stack([rim[0], np.full(21, b.clearance)])
        points = np.stack([foot, rim], axis=1)  # (xz, edge, step)
        y = shell.side_y(points[0], points[1])
        grid = np.stack([points[0], side * y, points[1]], axis=-1)
        quads = grid_quads(grid)
        builder.add(quads if side > 0 else quads[:, ::-1], material, Layer.ON_BODY, side)


def _add_belly(builder: Builder, design: Design) -> None:
    b = design.body
    x, y = b.length / 2 - 0.45, b.width / 2 - 0.22
    corners = np.array([[x, -y], [x, y], [-x, y], [-x, -y], [x, -y]])
    walls = np.stack(
        [np.column_stack([corners, np.full(5, z)]) for z in (0.7 * b.clearance, b.clearance + 0.12)]
    )
    builder.add(grid_quads(walls), Material.BELLY, Layer.BEHIND)
