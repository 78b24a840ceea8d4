"""Shading of paint, glass and chrome under a sky: the color of each quad.

Colors are linear until the last step converts them to display values. A quad's color is the sum of
diffuse light from sky, ground and sun, the reflection of the surroundings (Schlick's approximation
of Fresnel reflection), the sun's highlight (Blinn-Phong) and its own emission.
"""

from dataclasses import dataclass

import numpy as np

from compcars.drawing.mesh import Material, Mesh

# name: weight, linear RGB pigment, code in color_list.mat
PAINTS: dict[str, tuple[float, tuple[float, float, float], int]] = {
    "black": (0.20, (0.012, 0.012, 0.014), 0),
    "white": (0.24, (0.80, 0.80, 0.78), 1),
    "red": (0.12, (0.42, 0.02, 0.02), 2),
    "yellow": (0.03, (0.75, 0.48, 0.03), 3),
    "blue": (0.10, (0.03, 0.07, 0.30), 4),
    "green": (0.02, (0.04, 0.16, 0.07), 5),
    "purple": (0.01, (0.15, 0.03, 0.20), 6),
    "brown": (0.04, (0.13, 0.07, 0.04), 7),
    "champagne": (0.06, (0.50, 0.42, 0.30), 8),
    "silver": (0.18, (0.38, 0.39, 0.41), 9),
}


@dataclass(frozen=True)
class Light:
    """Light from the surroundings; colors are linear RGB."""

    sun_direction: np.ndarray  # (3,) unit length, toward the sun
    sun: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    ground: np.ndarray
    skyline: float  # height of the skyline, as the sine of its elevation
    phase: float  # rotation of the skyline, radians
    lamps: float = 0.0  # headlamps: 0 off, 1 on


def draw_paint(rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Draw a paint, with the same odds for every model; return its name and linear RGB pigment."""
    names = list(PAINTS)
    weights = np.array([PAINTS[name][0] for name in names])
    name = str(rng.choice(names, p=weights / weights.sum()))
    pigment = np.array(PAINTS[name][1]) * rng.uniform(0.75, 1.25) * rng.uniform(0.92, 1.08, 3)
    return name, np.clip(pigment, 0.005, 0.9)


# Pigment, mirror (reflectivity at normal incidence), gloss (highlight strength), emission with
# the headlamps off and on.
_LOOKS: dict[Material, tuple[tuple[float, float, float], float, float, float, float]] = {
    Material.PAINT: ((0.5, 0.5, 0.5), 0.05, 1.0, 0.0, 0.0),
    Material.TRIM: ((0.025, 0.025, 0.027), 0.015, 0.15, 0.0, 0.0),
    Material.GLASS: ((0.012, 0.014, 0.016), 0.10, 1.2, 0.0, 0.0),
    Material.CHROME: ((0.12, 0.12, 0.13), 0.62, 1.0, 0.0, 0.0),
    Material.LENS: ((0.16, 0.17, 0.18), 0.14, 1.0, 0.0, 0.25),
    Material.REFLECTOR: ((0.70, 0.72, 0.75), 0.20, 1.0, 0.0, 2.5),
    Material.DAYLIGHT: ((0.90, 0.92, 0.95), 0.05, 0.5, 0.25, 1.6),
    Material.AMBER: ((0.65, 0.22, 0.02), 0.06, 0.5, 0.0, 0.0),
    Material.RED: ((0.62, 0.02, 0.02), 0.06, 0.6, 0.05, 0.6),
    Material.DEEP_RED: ((0.22, 0.008, 0.01), 0.07, 0.7, 0.0, 0.1),
    Material.RUBBER: ((0.018, 0.018, 0.019), 0.005, 0.03, 0.0, 0.0),
    Material.RIM: ((0.34, 0.35, 0.36), 0.22, 0.6, 0.0, 0.0),
    Material.GAP: ((0.006, 0.006, 0.007), 0.002, 0.0, 0.0, 0.0),
    Material.PLATE: ((0.70, 0.70, 0.68), 0.02, 0.1, 0.0, 0.05),
    Material.PLATE_INK: ((0.03, 0.03, 0.05), 0.0, 0.0, 0.0, 0.0),
    Material.BADGE: ((0.40, 0.41, 0.43), 0.50, 0.8, 0.0, 0.0),
    Material.BELLY: ((0.003, 0.003, 0.003), 0.0, 0.0, 0.0, 0.0),
    Material.INTERIOR: ((0.05, 0.05, 0.055), 0.08, 0.3, 0.0, 0.0),
}
_PIGMENTS = np.array([_LOOKS[m][0] for m in Material])
_MIRROR, _GLOSS, _GLOW_OFF, _GLOW_ON = np.array([_LOOKS[m][1:] for m in Material]).T


def shade(
    mesh: Mesh,
    visible: np.ndarray,
    eye: np.ndarray,
    light: Light,
    paint: np.ndarray,
    plate: np.ndarray,
) -> np.ndarray:
    """Return the display colors (n_visible, 3) uint8 of the quads with indexes ``visible``."""
    material, normals = mesh.material[visible], mesh.normals[visible]
    middles = mesh.corners[visible].mean(axis=1)
    pigments = _PIGMENTS.copy()
    pigments[Material.PAINT], pigments[Material.PLATE] = paint, plate
    toward_eye = eye - middles
    toward_eye /= np.linalg.norm(toward_eye, axis=1, keepdims=True)
    facing = np.clip((normals * toward_eye).sum(axis=1, keepdims=True), 0, 1)

    up = normals[:, 2:]
    ambient = (
        light.horizon * 0.35 + np.where(up > 0, light.zenith, light.ground) * np.abs(up) * 0.65
    )
    ambient = ambient * np.clip(0.45 + middles[:, 2:] * 0.7, 0.45, 1)  # darker near the road
    diffuse = ambient + light.sun * np.clip(normals @ light.sun_direction, 0, 1)[:, None]

    mirror = _MIRROR[material][:, None]
    fresnel = mirror + np.minimum(1 - mirror, 12 * mirror) * (1 - facing) ** 5
    reflected = surroundings(2 * facing * normals - toward_eye, light)
    half = toward_eye + light.sun_direction
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    highlight = (
        np.clip((normals * half).sum(axis=1), 0, 1)[:, None] ** 45 * _GLOSS[material][:, None]
    )
    glow = _GLOW_OFF[material] + light.lamps * (_GLOW_ON - _GLOW_OFF)[material]

    color = pigments[material] * (diffuse * (1 - mirror) + glow[:, None])
    return display(color + fresnel * reflected + highlight * light.sun)


def surroundings(direction: np.ndarray, light: Light) -> np.ndarray:
    """Return the linear RGB seen in unit directions (n, 3): sky, a dark skyline, the road."""
    z = direction[:, 2:]
    turn = np.arctan2(direction[:, 1], direction[:, 0])[:, None] + light.phase
    skyline = light.skyline * (1 + 0.5 * np.sin(3 * turn) + 0.3 * np.sin(7 * turn + 1))
    sky = light.horizon + (light.zenith - light.horizon) * np.clip(z, 0, 1) ** 0.6
    wall = 0.25 * light.horizon + 0.1 * light.ground
    road = light.ground * (0.35 + 0.5 * np.clip(-z, 0, 1))
    above = np.clip((z - skyline) / 0.14, 0, 1)
    below = np.clip(0.5 + z / 0.12, 0, 1)
    return road + below * (wall + above * (sky - wall) - road)


def display(linear: np.ndarray) -> np.ndarray:
    """Convert linear light to uint8 display values, with highlight roll-off."""
    rolled = linear * (1 + linear / 6) / (1 + linear * 0.62)
    return (255 * np.clip(rolled, 0, 1) ** (1 / 2.2)).astype(np.uint8)
