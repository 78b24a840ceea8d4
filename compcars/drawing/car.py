"""The mesh of a design: body, glasshouse and all attached parts."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from compcars.drawing import front, rear, wheels
from compcars.drawing.designs import Body, Design
from compcars.drawing.mesh import Builder, Layer, Material, Mesh
from compcars.drawing.surfaces import STATIONS, Shell, Surface, facing_rear, grid_quads, lid, region

RAIL = np.array([0.0, 0.0, 0.05])  # height of a roof rail, meters
LEVELS = np.linspace(0, 1, STATIONS)


@dataclass(frozen=True)
class Surfaces:
    """The four surfaces that all other parts are cut from or attached to."""

    body: Shell
    hood: Surface  # and the rear deck
    glasshouse: Shell
    roof: Surface


@lru_cache(maxsize=64)
def car_mesh(design: Design) -> Mesh:
    """Return the mesh of a car that stands on z = 0, centered at x = y = 0."""
    surfaces = _surfaces(design)
    builder = Builder()
    _add_body(builder, design, surfaces)
    wheels.add(builder, design, surfaces.body)
    front.add(builder, design, surfaces.body)
    rear.add(builder, design, surfaces.body)
    _add_glasshouse(builder, design, surfaces)
    return builder.mesh()


def _surfaces(design: Design) -> Surfaces:
    b = design.body
    body = _body_shell(b, design.flank.crease)
    half = b.length / 2
    knots = [-half, -half + 0.2, -half + b.tail + 0.2, half - b.hood, half - 0.3, half]
    crown = np.interp(body.x, knots, [0.0, 0.03, 0.03, 0.07, 0.05, 0.0])
    glasshouse = _glass_shell(b, body)
    rise = 0.05 * np.sin(np.pi * np.linspace(0.12, 0.92, STATIONS))
    return Surfaces(body, lid(body, crown, b.dome), glasshouse, lid(glasshouse, rise))


def _body_shell(b: Body, crease: float) -> Shell:
    half = b.length / 2
    x = np.linspace(-half, half, STATIONS)
    knots = [-half, -half + b.tail + 0.01, 0.0, half - b.hood, half - 0.35 * b.hood, half]
    heights = [b.deck - 0.03, b.deck, (b.deck + b.cowl) / 2, b.cowl, (b.nose + b.cowl) / 2, b.nose]
    high = _smooth(x, knots, heights)
    low = b.clearance + 0.05 * np.abs(x / half) ** 6
    # The bumper protrudes at 0.35 of the height; nose and tail recede above it.
    above, below = np.clip((LEVELS - 0.35) / 0.65, 0, 1), np.clip((0.35 - LEVELS) / 0.35, 0, 1)
    nose = b.lean * above**1.8 + 0.10 * below**2
    tail = 0.10 * above**2 + 0.10 * below**2
    swell = 1 - 0.05 * below**2 - 0.04 * above**2
    swell -= 0.022 * np.exp(-(((LEVELS - crease + 0.07) / 0.06) ** 2))  # the crease of the flank
    return Shell(
        half - nose, tail - half, b.width / 2 * swell, x, low, high, power=7.5 - 3.5 * b.roundness
    )


def _glass_shell(b: Body, body: Shell) -> Shell:
    half = b.length / 2
    fore, aft = half - b.hood, -half + b.tail
    rise = LEVELS + 0.06 * np.sin(np.pi * LEVELS)  # pillars bow slightly outward
    x = np.linspace(aft - 0.02, fore + 0.02, STATIONS)
    low = np.interp(x, body.x, body.high) - 0.02
    top, bottom = fore - b.rake, aft + b.back
    roof = [b.height - 0.10, b.height - 0.05, b.height - 0.03, b.height - 0.08]
    high = _smooth(x, [x[0], bottom, (top + bottom) / 2, x[-1]], roof)
    ease = rise.clip(0, 1)
    return Shell(
        front=fore - b.rake * ease,
        rear=aft + b.back * ease,
        half_width=b.width / 2 * (0.93 + (b.roof_width - 0.93) * LEVELS**1.25),
        x=x,
        low=low,
        high=high,
        power=7.0 - 2.5 * b.roundness,
    )


def _smooth(x: np.ndarray, knots: list[float], values: list[float]) -> np.ndarray:
    """Interpolate the knots linearly at evenly spaced ``x``, and round the corners."""
    curve = np.interp(x, knots, values)
    for _ in range(2):
        curve[1:-1] = (curve[:-2] + 2 * curve[1:-1] + curve[2:]) / 4
    return curve


def _add_body(builder: Builder, design: Design, surfaces: Surfaces) -> None:
    around = np.linspace(-4, 4, 145)
    upward = np.linspace(0, 1, 27)
    builder.add(grid_quads(surfaces.body(around, upward[:, None])), Material.PAINT, Layer.BODY)
    along = 4 * (0.5 - 0.5 * np.cos(np.pi * np.linspace(0, 1, 45)))
    across = np.linspace(1, -1, 15)
    top = surfaces.hood(*np.broadcast_arrays(along, across[:, None]))
    builder.add(grid_quads(top), Material.PAINT, Layer.LID)
    b = design.body
    skirt = region(surfaces.body, 1.02, 2.98, 0.0, 0.10)
    builder.patch(skirt, Material.TRIM, Layer.BODY, grid=(10, 1), both=True)
    for q in (1 + (b.hood + 0.1) / (b.length / 2), 2.12, 2.62):  # shut lines of the doors
        line = region(surfaces.body, q, q + 0.008, 0.12, 1.0)
        builder.patch(line, Material.GAP, grid=(1, 8), flank=True)
    metal = Material.CHROME if design.flank.window_frame else Material.TRIM
    for q in (1.95, 2.47):
        low = design.flank.crease + 0.02
        handle = region(surfaces.body, q, q + 0.09, low, low + 0.05)
        builder.patch(handle, metal, flank=True)


def _add_glasshouse(builder: Builder, design: Design, surfaces: Surfaces) -> None:
    shell, flank = surfaces.glasshouse, design.flank
    around = np.linspace(-4, 4, 89)
    builder.add(
        grid_quads(shell(around, np.linspace(0, 1, 9)[:, None])), Material.PAINT, Layer.GLASSHOUSE
    )
    along = 4 * (0.5 - 0.5 * np.cos(np.pi * np.linspace(0, 1, 25)))
    top = surfaces.roof(*np.broadcast_arrays(along, np.linspace(1, -1, 11)[:, None]))
    builder.add(grid_quads(top), Material.PAINT, Layer.GLASSHOUSE)
    on = Layer.ON_GLASSHOUSE
    screen = region(shell, -0.95, 0.95, 0.04, [0.90, 0.93, 0.94, 0.93, 0.90])
    builder.patch(screen.part(-0.01, 1.01, -0.03, 1.02), Material.TRIM, on, (16, 1))
    builder.patch(screen, Material.GLASS, on, (28, 14))
    for s in (0.16, 0.66):  # headrests
        seat = screen.part(s, s + 0.15, 0.18, 0.50)
        builder.patch(seat, Material.INTERIOR, on, (3, 1))
    builder.patch(screen.part(0.46, 0.54, 0.80, 0.92), Material.TRIM, on, (1, 1))
    back = region(facing_rear(shell), -0.90, 0.90, 0.10, [0.84, 0.90, 0.91, 0.90, 0.84])
    builder.patch(back.part(-0.01, 1.01, -0.04, 1.03), Material.TRIM, on, (12, 1))
    builder.patch(back, Material.GLASS, on, (22, 10))
    _add_side_windows(builder, design, shell)
    _add_mirrors(builder, design, surfaces)
    if flank.rails:
        for side in (1, -1):
            rail = _box(surfaces.roof, side)
            builder.add(rail, Material.CHROME, Layer.OUTSIDE, side)


def _add_side_windows(builder: Builder, design: Design, shell: Shell) -> None:
    flank, on = design.flank, Layer.ON_GLASSHOUSE
    end = 2.94 - flank.pillar
    low = 0.06 + flank.kick * np.array([0.0, 0.1, 0.3, 0.6, 1.0])
    band = region(shell, 1.07, end, low, [0.86, 0.89, 0.90, 0.89, 0.84])
    frame = Material.CHROME if flank.window_frame else Material.TRIM
    builder.patch(band.part(-0.015, 1.015, -0.06, 1.05), frame, on, (16, 1), both=True)
    builder.patch(band, Material.TRIM, on, (12, 1), both=True)
    cuts = [0.0, 0.46, 0.84, 1.0] if flank.quarter else [0.0, 0.50, 1.0]
    for s0, s1 in pairwise(cuts):
        builder.patch(band.part(s0 + 0.012, s1 - 0.012), Material.GLASS, on, (12, 8), both=True)


def _add_mirrors(builder: Builder, design: Design, surfaces: Surfaces) -> None:
    b, size = design.body, design.flank.mirror
    x = b.length / 2 - b.hood - 0.38
    z = b.cowl + 0.09
    angle, height = np.linspace(-np.pi, np.pi, 13), np.linspace(-np.pi / 2, np.pi / 2, 7)[:, None]
    ball = np.stack(
        [
            0.09 * np.cos(height) * np.cos(angle),
            0.12 * np.cos(height) * np.sin(angle),
            0.085 * np.sin(height) * np.ones_like(angle),
        ],
        axis=-1,
    )
    # A superellipsoid: the exponent below 1 makes a ball boxier.
    ball = np.sign(ball) * np.abs(ball / [0.09, 0.12, 0.085]) ** 0.6 * [0.09, 0.12, 0.085]
    for side in (1, -1):
        at = [x, side * (b.width / 2 + 0.07), z]
        builder.add(grid_quads(ball * size + at), Material.PAINT, Layer.OUTSIDE, side)


def _box(roof: Surface, side: int) -> np.ndarray:
    """Return the quads of the roof rail on one side."""
    q = np.linspace(1.25, 2.75, 9)
    edge = roof(q, np.full(9, 0.93 * side))
    inner = roof(q, np.full(9, 0.88 * side)) + RAIL
    outer = edge + RAIL
    strips = [np.stack(pair) for pair in ((edge, outer), (outer, inner))]
    quads = np.concatenate([grid_quads(strip) for strip in strips])
    return quads if side > 0 else quads[:, ::-1]
