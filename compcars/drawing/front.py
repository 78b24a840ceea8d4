"""The front of a car: grille, lamps, air intakes, badge and license plate."""

import numpy as np

from compcars.drawing.designs import Design, Face
from compcars.drawing.mesh import Builder, Layer, Material
from compcars.drawing.surfaces import Region, Shell, Surface, bowl, disc, region

PLATE_WIDTH, PLATE_HEIGHT = 0.46, 0.13  # meters


def add(builder: Builder, design: Design, shell: Shell) -> None:
    """Add the front of ``design`` to its body."""
    face = design.face
    _add_lower(builder, face, shell)
    _add_grille(builder, face, shell)
    _add_headlamp(builder, face, face.lamp.on(shell))
    _add_badge(builder, face, shell)
    add_plate(builder, shell, 0.35)


def _add_headlamp(builder: Builder, face: Face, lamp: Region) -> None:
    builder.patch(lamp.part(-0.03, 1.03, -0.06, 1.06), Material.GAP, grid=(10, 1), both=True)
    builder.patch(lamp, Material.LENS, grid=(10, 3), both=True)
    for i in range(face.projectors):
        s = 0.22 + 0.56 * (i + 0.5) / face.projectors
        for size, material in ((0.74, Material.CHROME), (0.60, Material.REFLECTOR)):
            builder.patch(bowl(lamp, s, 0.52, size), material, grid=(8, 1), both=True)
    strips = {
        "below": [(0.04, 0.96, 0.06, 0.22)],
        "above": [(0.04, 0.96, 0.80, 0.95)],
        "edge": [(0.03, 0.14, 0.08, 0.92), (0.03, 0.60, 0.06, 0.20)],
        "ring": [(0.05, 0.95, 0.05, 0.16), (0.05, 0.95, 0.84, 0.95)],
    }
    for strip in strips.get(face.light, []):
        builder.patch(lamp.part(*strip), Material.DAYLIGHT, grid=(8, 1), both=True)
    builder.patch(lamp.part(0.88, 0.98, 0.25, 0.75), Material.AMBER, grid=(2, 1), both=True)


def _add_grille(builder: Builder, face: Face, shell: Shell) -> None:
    for opening in _openings(face, shell):
        rim = Material.CHROME if face.chrome else Material.TRIM
        if face.frame:
            edge = face.frame / face.grille_height * 2
            side = face.frame / face.grille_width
            builder.patch(opening.part(-side, 1 + side, -edge, 1 + edge), rim, grid=(14, 1))
        builder.patch(opening, Material.GAP, grid=(14, 1))
        _add_bars(builder, face, opening)


def _openings(face: Face, shell: Shell) -> list[Region]:
    w, top = face.grille_width, face.grille_top
    bottom = top - face.grille_height
    middle = (top + bottom) / 2
    bow = np.sqrt(1 - np.linspace(-1, 1, 9) ** 2)
    if face.grille == "kidney":
        lens = bow**0.5
        half = face.grille_height / 2
        left = region(shell, 0.03, w * 0.72, middle - half * lens, middle + half * lens)
        return [left, left.mirrored()]
    if face.grille == "stacked":
        gap = 0.12 * face.grille_height
        return [
            region(shell, -w, w, middle + gap, [top - 0.03, top, top, top - 0.03]),
            region(
                shell, -w * 0.8, w * 0.8, [middle - gap, bottom, bottom, middle - gap], middle - gap
            ),
        ]
    outlines: dict[str, tuple[object, object]] = {
        "trapezoid": ([top - 0.06, bottom, bottom, bottom, top - 0.06], top),
        "hexagon": ([middle, bottom, bottom, bottom, middle], [middle, top, top, top, middle]),
        "shield": ([top - 0.08, middle, bottom, middle, top - 0.08], [top - 0.02, top, top - 0.02]),
        "smile": (
            [middle + 0.06, bottom, bottom - 0.02, bottom, middle + 0.06],
            [top, middle + 0.02, top],
        ),
        "slot": ([middle - 0.02, middle - 0.06, middle - 0.02], [top - 0.02, top, top - 0.02]),
        "oval": (middle - (middle - bottom) * bow, middle + (top - middle) * bow),
    }
    low, high = outlines[face.grille]
    return [region(shell, -w, w, low, high)]


def _add_bars(builder: Builder, face: Face, opening: Region) -> None:
    bar = Material.CHROME if face.chrome else Material.TRIM
    if face.pattern in ("horizontal", "mesh"):
        for t in (np.arange(face.bars) + 0.5) / face.bars:
            builder.patch(
                opening.part(0, 1, t - 0.2 / face.bars, t + 0.2 / face.bars), bar, grid=(12, 1)
            )
    if face.pattern in ("vertical", "mesh"):
        n = 3 * face.bars
        for s in (np.arange(n) + 0.5) / n:
            builder.patch(opening.part(s - 0.17 / n, s + 0.17 / n), bar, grid=(1, 1))
    if face.pattern in ("single", "cross"):
        builder.patch(opening.part(0, 1, 0.40, 0.60), bar, grid=(12, 1))
    if face.pattern == "cross":
        builder.patch(opening.part(0.46, 0.54), bar, grid=(1, 3))


def _add_badge(builder: Builder, face: Face, shell: Shell) -> None:
    v = face.grille_top - (0.5 if face.frame else 0.12) * face.grille_height
    v = min(v, 0.93)
    sizes = {"disc": (0.13, 0.13), "oval": (0.20, 0.10), "bar": (0.24, 0.05), "wing": (0.28, 0.08)}
    width, height = sizes.get(face.badge, (0.13, 0.14))
    badge = disc(shell, 0.0, v, width, height)
    if face.badge in ("diamond", "shield"):
        q, reach = badge.stop, float(badge.high.max() - v)
        low = (
            [v, v - reach, v]
            if face.badge == "diamond"
            else [v, v - reach * 0.7, v - reach, v - reach * 0.7, v]
        )
        high = [v, v + reach, v] if face.badge == "diamond" else v + reach
        badge = region(shell, -q, q, low, high)
    builder.patch(badge, Material.BADGE, grid=(10, 1))
    builder.patch(badge.part(0.15, 0.85, 0.3, 0.7), Material.GAP, grid=(6, 1))


def _add_lower(builder: Builder, face: Face, shell: Shell) -> None:
    w, h = face.intake_width, face.intake_height
    lip = region(shell, -1.05, 1.05, 0.0, 0.05)
    builder.patch(lip, Material.TRIM, grid=(16, 1))
    low, high = 0.08, 0.08 + h
    outlines: dict[str, tuple[object, object]] = {
        "wide": (low, [high - 0.03, high, high, high - 0.03]),
        "trapezoid": ([low, low, low], [low + 0.02, high, high, high, low + 0.02]),
        "triple": (low, high),
        "smile": (
            [high - 0.06, low, low, low, high - 0.06],
            [high + 0.04, high - 0.02, high + 0.04],
        ),
        "slim": (low + h * 0.4, low + h * 0.85),
    }
    intake = region(shell, -w, w, *outlines[face.intake])
    if face.intake == "triple":
        builder.patch(intake.part(0.25, 0.75), Material.GAP, grid=(8, 1))
        outer = region(shell, 0.62 * w, w + 0.16, [low + 0.02, low], [high - 0.02, high + 0.08])
        builder.patch(outer, Material.GAP, grid=(4, 1), both=True)
    else:
        builder.patch(intake, Material.GAP, grid=(12, 1))
        builder.patch(intake.part(0, 1, 0.44, 0.56), Material.TRIM, grid=(12, 1))
    _add_fog(builder, face, shell)


def _add_fog(builder: Builder, face: Face, shell: Shell) -> None:
    q, v = face.fog_at, 0.20
    if face.fog == "none":
        return
    if face.fog == "round":
        builder.patch(disc(shell, q, v, 0.17, 0.15), Material.GAP, grid=(8, 1), both=True)
        builder.patch(disc(shell, q, v, 0.10, 0.10), Material.REFLECTOR, grid=(8, 1), both=True)
        return
    low, high = {
        "slit": ([v + 0.02, v], [v + 0.06, v + 0.08]),
        "triangle": ([v, v - 0.06, v - 0.08], [v + 0.02, v + 0.06, v + 0.18]),
    }[face.fog]
    hole = region(shell, q - 0.10, q + 0.16, low, high)
    builder.patch(hole, Material.GAP, grid=(4, 1), both=True)
    builder.patch(hole.part(0.35, 0.75, 0.25, 0.7), Material.REFLECTOR, grid=(2, 1), both=True)


def add_plate(builder: Builder, surface: Surface, low: float) -> None:
    """Add a license plate with its lower edge at v = ``low``; strokes stand for the characters."""
    plate = disc(surface, 0.0, low + 0.1, PLATE_WIDTH, PLATE_HEIGHT)
    box = region(surface, plate.start, plate.stop, float(plate.low.min()), float(plate.high.max()))
    builder.patch(box.part(-0.02, 1.02, -0.08, 1.08), Material.GAP, Layer.ON_BODY, (4, 1))
    builder.patch(box, Material.PLATE, Layer.ON_BODY, (4, 1))
    for i in range(7):
        s = 0.08 + 0.125 * i + 0.03 * (i > 1)
        builder.patch(box.part(s, s + 0.07, 0.22, 0.78), Material.PLATE_INK, Layer.ON_BODY, (1, 1))
