"""The background of a photo, and the road with the car's shadow."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from compcars.drawing.camera import Camera
from compcars.drawing.lighting import Light, display
from compcars.drawing.scene import Scene

COARSE = 2  # the backdrop is drawn smaller by this factor: cheaper, and out of focus anyway
Tone = tuple[int, int, int]


@dataclass(frozen=True)
class Easel:
    """Canvas, scene and random source of a backdrop; lengths in pixels of ``image``."""

    image: Image.Image
    horizon: float
    scene: Scene
    rng: np.random.Generator

    @property
    def draw(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.image)

    def box(
        self, x1: float, y1: float, x2: float, y2: float, fill: Tone, radius: float = 0
    ) -> None:
        """Draw a box, unless it is empty: the horizon may be above the picture."""
        if x2 > x1 and y2 > y1:
            self.draw.rounded_rectangle((x1, y1, x2, y2), radius=radius, fill=fill)

    def tone(self, pigment: np.ndarray) -> Tone:
        """Return the display color of a matte surface in the background."""
        light = self.scene.light
        r, g, b = display(np.asarray(pigment) * (light.horizon + 0.4 * light.sun)).tolist()
        return r, g, b

    def gray(self, low: float, high: float) -> Tone:
        """Return the display color of a surface with a random, nearly gray pigment."""
        return self.tone(self.rng.uniform(low, high) * self.rng.uniform(0.88, 1.12, 3))


def backdrop(
    scene: Scene,
    camera: Camera,
    size: tuple[int, int],
    footprint: tuple[float, float],
    rng: np.random.Generator,
) -> Image.Image:
    """Return the picture without the car, at 1 / COARSE of ``size``.

    Args:
        scene: Place and light.
        camera: Camera of the full-size picture.
        size: Width and height of the full-size picture in pixels.
        footprint: Length and width of the car in meters, for its shadow.
        rng: Random source of the clutter.
    """
    width, height = (max(side // COARSE, 1) for side in size)
    horizon = camera.horizon / COARSE
    image = _ground_and_sky(scene, (width, height), horizon)
    painter = {
        "street": _buildings,
        "park": _trees,
        "yard": _wall,
        "studio": _softboxes,
        "open": _far_clutter,
        "road": _lanes,
    }[scene.place]
    painter(Easel(image, horizon, scene, rng))
    image = image.filter(ImageFilter.GaussianBlur(width / 320 * rng.uniform(0.3, 1.5)))
    return _with_shadow(image, camera, footprint, scene.light)


def _ground_and_sky(scene: Scene, size: tuple[int, int], horizon: float) -> Image.Image:
    width, height = size
    light, row = scene.light, np.arange(height)[:, None]
    up = np.clip((horizon - row) / max(height * 0.7, 1), 0, 1)
    down = np.clip((row - horizon) / max(height * 0.9, 1), 0, 1)
    sky = light.horizon + (light.zenith - light.horizon) * up**0.6
    sun_on_ground = light.sun * max(light.sun_direction[2], 0)
    asphalt = light.ground * 0.9 * (0.7 + 0.5 * sun_on_ground + 0.4 * down)
    if scene.place == "studio":
        sky = asphalt * (1.35 - 0.5 * up)  # no edge between wall and floor
        blend = np.clip((row - horizon) / (0.2 * height) + 0.5, 0, 1)
    else:
        blend = (row > horizon).astype(float)
    column = display(sky + blend * (asphalt - sky))
    return Image.fromarray(np.repeat(column[:, None], width, axis=1))


def _buildings(easel: Easel) -> None:
    (width, height), horizon, rng = easel.image.size, easel.horizon, easel.rng
    x = -rng.uniform(0, width / 4)
    while x < width:
        wide, tall = width * rng.uniform(0.10, 0.32), height * rng.uniform(0.15, 0.75)
        tone, window = easel.gray(0.12, 0.6), easel.gray(0.04, 0.5)
        easel.box(x, horizon - tall, x + wide, horizon, fill=tone)
        step_x, step_y = wide / rng.integers(3, 7), height * rng.uniform(0.07, 0.13)
        for row in np.arange(horizon - tall + step_y / 2, horizon - step_y, step_y):
            for column in np.arange(x + step_x * 0.25, x + wide - step_x * 0.5, step_x):
                easel.box(column, row, column + step_x * 0.5, row + step_y * 0.55, fill=window)
        x += wide * rng.uniform(0.9, 1.3)
    _far_clutter(easel)


def _trees(easel: Easel) -> None:
    (width, height), horizon, rng = easel.image.size, easel.horizon, easel.rng
    grass = easel.tone(np.array([0.10, 0.18, 0.04]) * rng.uniform(0.6, 1.5))
    easel.box(0, horizon - 1, width, horizon + height * rng.uniform(0.02, 0.2), fill=grass)
    for _ in range(int(rng.integers(14, 34))):
        x, radius = rng.uniform(0, width), height * rng.uniform(0.05, 0.22)
        y = horizon - radius * rng.uniform(0.3, 1.8)
        leaf = np.array([0.07, 0.13, 0.03]) * rng.uniform(0.4, 1.6) * rng.uniform(0.8, 1.2, 3)
        easel.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=easel.tone(leaf))


def _wall(easel: Easel) -> None:
    (width, height), horizon, rng = easel.image.size, easel.horizon, easel.rng
    foot = max(horizon + height * rng.uniform(0.0, 0.12), 1.0)
    easel.box(0, 0, width, foot, fill=easel.gray(0.15, 0.6))
    dark = easel.gray(0.05, 0.4)
    if rng.random() < 0.5:
        for x in np.arange(0, width, width * rng.uniform(0.03, 0.12)):
            easel.draw.line((x, 0, x, foot), fill=dark, width=max(1, width // 160))
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.uniform(0, width), rng.uniform(0, foot)
        w, h = width * rng.uniform(0.05, 0.3), height * rng.uniform(0.05, 0.4)
        easel.box(x, y, x + w, min(y + h, foot), fill=easel.gray(0.05, 0.8))
    white = easel.gray(0.5, 0.8)
    for x in np.arange(rng.uniform(-0.5, 0), 1.5, rng.uniform(0.25, 0.5)) * width:
        slant = (x - width / 2) * 0.8
        easel.draw.line((x, foot, x + slant, height), fill=white, width=max(1, width // 90))


def _softboxes(easel: Easel) -> None:
    (width, height), rng = easel.image.size, easel.rng
    for _ in range(int(rng.integers(0, 3))):
        x, y = rng.uniform(-0.1, 0.8) * width, rng.uniform(-0.05, 0.2) * height
        wide, tall = width * rng.uniform(0.1, 0.4), height * rng.uniform(0.02, 0.06)
        easel.box(x, y, x + wide, y + tall, fill=easel.gray(0.9, 1.4))


def _far_clutter(easel: Easel) -> None:
    (width, height), horizon, rng = easel.image.size, easel.horizon, easel.rng
    for _ in range(int(rng.integers(2, 9))):
        x, wide = rng.uniform(-0.1, 1.0) * width, width * rng.uniform(0.02, 0.16)
        tall = height * rng.uniform(0.03, 0.12)
        y = horizon + tall * rng.uniform(0.1, 0.5)
        tone = easel.gray(0.03, 0.7)
        easel.box(x, y - tall, x + wide, y, fill=tone, radius=tall / 3)
    for _ in range(int(rng.integers(0, 4))):
        x, tall = rng.uniform(0, width), height * rng.uniform(0.2, 0.9)
        tone = easel.gray(0.03, 0.3)
        easel.draw.line((x, horizon + 2, x, horizon - tall), fill=tone, width=max(1, width // 120))
    white = easel.gray(0.4, 0.8)
    y = horizon + (height - horizon) * rng.uniform(0.15, 0.7)
    easel.draw.line(
        (0, y, width, y + height * rng.uniform(-0.1, 0.1)), fill=white, width=max(1, height // 100)
    )


def _lanes(easel: Easel) -> None:
    (width, height), rng = easel.image.size, easel.rng
    white = easel.gray(0.25, 0.6)
    for x in (rng.uniform(-0.2, 0.1), rng.uniform(0.9, 1.2)):
        top = 0.5 + (x - 0.5) * rng.uniform(0.5, 0.8)
        line = (x * width, height, top * width, 0)
        easel.draw.line(line, fill=white, width=max(1, width // 40))
    for _ in range(int(rng.integers(0, 5))):  # patches in the asphalt
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        box = (x, y, x + width * rng.uniform(0.1, 0.6), y + height * rng.uniform(0.02, 0.2))
        easel.draw.rectangle(box, fill=easel.tone(easel.scene.light.ground * rng.uniform(0.6, 1.4)))


def _with_shadow(
    image: Image.Image, camera: Camera, footprint: tuple[float, float], light: Light
) -> Image.Image:
    """Darken the ground under the car and in its shadow."""
    length, width = footprint
    turn = np.linspace(0, 2 * np.pi, 33)[:-1]
    outline = np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=-1)
    outline /= (np.abs(outline[:, :2]) ** 6).sum(axis=1, keepdims=True) ** (1 / 6)
    outline *= [length / 2, width / 2, 0]
    sun = light.sun.mean() / (light.sun.mean() + light.zenith.mean())
    away = -light.sun_direction * [1, 1, 0] * 0.6
    mask = Image.new("L", image.size, 255)
    draw = ImageDraw.Draw(mask)
    for points, tone in ((outline * 1.06 + away, 255 - int(150 * sun)), (outline * 1.02, 90)):
        draw.polygon((camera.project(points) / COARSE).ravel().tolist(), fill=tone)
    mask = mask.filter(ImageFilter.GaussianBlur(image.width / 75))
    draw = ImageDraw.Draw(mask)
    draw.polygon((camera.project(outline * 0.93) / COARSE).ravel().tolist(), fill=36)
    mask = mask.filter(ImageFilter.GaussianBlur(image.width / 130))
    dark = np.asarray(image, np.uint16) * np.asarray(mask, np.uint16)[..., None] // 255
    return Image.fromarray(dark.astype(np.uint8))
