"""The rear of a car: lamps, lid, license plate, bumper and exhaust pipes."""

from compcars.drawing.designs import Design, Tail
from compcars.drawing.front import add_plate
from compcars.drawing.mesh import Builder, Material
from compcars.drawing.surfaces import Region, Shell, Surface, disc, facing_rear, region


def add(builder: Builder, design: Design, shell: Shell) -> None:
    """Add the rear of ``design`` to its body."""
    tail, surface = design.tail, facing_rear(shell)
    builder.patch(region(surface, -1.05, 1.05, 0.0, tail.skirt), Material.TRIM, grid=(16, 1))
    seam = region(surface, -0.74, 0.74, 0.44, 0.455)
    builder.patch(seam, Material.GAP, grid=(12, 1))
    builder.patch(region(surface, 0.735, 0.75, 0.44, 0.99), Material.GAP, grid=(1, 6), both=True)
    lamp = tail.lamp.on(surface)
    if tail.bar != "none":
        middle = float((lamp.low[4] + lamp.high[4]) / 2)
        bar = region(
            surface, -tail.lamp.inner - 0.05, tail.lamp.inner + 0.05, middle - 0.03, middle + 0.03
        )
        builder.patch(
            bar, Material.CHROME if tail.bar == "chrome" else Material.DEEP_RED, grid=(10, 1)
        )
    _add_lamp(builder, lamp)
    add_plate(builder, surface, tail.plate_low)
    builder.patch(disc(surface, 0.0, 0.88, 0.12, 0.10), Material.BADGE, grid=(8, 1))
    _add_pipes(builder, tail, surface)


def _add_lamp(builder: Builder, lamp: Region) -> None:
    builder.patch(lamp.part(-0.02, 1.02, -0.05, 1.05), Material.GAP, grid=(10, 1), both=True)
    builder.patch(lamp, Material.DEEP_RED, grid=(10, 3), both=True)
    builder.patch(lamp.part(0.08, 0.92, 0.55, 0.85), Material.RED, grid=(8, 1), both=True)
    builder.patch(lamp.part(0.10, 0.55, 0.15, 0.38), Material.REFLECTOR, grid=(4, 1), both=True)
    builder.patch(lamp.part(0.60, 0.92, 0.15, 0.38), Material.AMBER, grid=(4, 1), both=True)


def _add_pipes(builder: Builder, tail: Tail, surface: Surface) -> None:
    for i in range(tail.pipes):
        for material, size in ((Material.CHROME, 0.10), (Material.GAP, 0.07)):
            pipe = disc(surface, 0.55 + 0.14 * i, 0.05, size, size * 0.8)
            builder.patch(pipe, material, grid=(8, 1), both=True)
