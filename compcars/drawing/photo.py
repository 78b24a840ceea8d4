"""A web-nature photo: one car from one of the labeled viewpoints, outdoors or in a studio."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from compcars.drawing.backdrop import backdrop
from compcars.drawing.camera import Camera
from compcars.drawing.car import car_mesh
from compcars.drawing.designs import Design
from compcars.drawing.lighting import draw_paint
from compcars.drawing.render import SUPERSAMPLING, draw_car, projected_box
from compcars.drawing.scene import Scene, draw_scene

# viewpoint label: lowest and highest azimuth from the front, in degrees, on either side
VIEWPOINTS = {1: (0, 13), 2: (166, 180), 3: (77, 103), 4: (20, 45), 5: (122, 160), -1: (0, 180)}
PLATES = ((0.02, 0.06, 0.35), (0.75, 0.75, 0.72), (0.70, 0.50, 0.05), (0.03, 0.03, 0.04))


@dataclass(frozen=True)
class Photo:
    image: Image.Image
    box: tuple[int, int, int, int]  # x1, y1, x2, y2: pixels, 0-based, end exclusive
    paint: str
    quality: int  # JPEG quality


def take_photo(
    design: Design, viewpoint: int, size: tuple[int, int], rng: np.random.Generator
) -> Photo:
    """Return a photo of ``design`` from a labeled ``viewpoint`` (1 to 5, or -1)."""
    mesh = car_mesh(design)
    scene = draw_scene(rng)
    paint, pigment = draw_paint(rng)
    camera = _camera(viewpoint, rng).framed(
        mesh.corners.reshape(-1, 3),
        size,
        fill=rng.uniform(0.80, 0.99) if rng.random() < 0.95 else rng.uniform(1.0, 1.08),
        at=(rng.uniform(0.2, 0.8), rng.uniform(0.35, 0.8)),
    )
    canvas = expose(design, scene, camera, size, pigment, rng)
    box = projected_box(mesh, camera, size)
    if rng.random() < 0.08:
        _add_occluder(canvas, box, rng)
    image = develop(canvas.reduce(SUPERSAMPLING), rng, noise=rng.uniform(0.5, 5.0))
    return Photo(image, box, paint, int(rng.integers(68, 95)))


def expose(
    design: Design,
    scene: Scene,
    camera: Camera,
    size: tuple[int, int],
    pigment: np.ndarray,
    rng: np.random.Generator,
) -> Image.Image:
    """Render a car in a scene, SUPERSAMPLING times as large as ``size``."""
    footprint = (design.body.length, design.body.width)
    canvas = backdrop(scene, camera, size, footprint, rng)
    large = (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING)
    canvas = canvas.resize(large, Image.Resampling.BILINEAR)
    plate = np.array(PLATES[int(rng.choice(len(PLATES), p=[0.6, 0.2, 0.15, 0.05]))])
    draw_car(canvas, car_mesh(design), camera, scene.light, pigment, plate)
    return canvas


def _camera(viewpoint: int, rng: np.random.Generator) -> Camera:
    azimuth = rng.uniform(*VIEWPOINTS[viewpoint]) * rng.choice([-1, 1])
    # The label -1 marks views that fit no other label: here, from high above.
    elevation = rng.uniform(3, 12) if viewpoint > 0 else rng.uniform(35, 60)
    return Camera.around_car(azimuth, elevation, rng.uniform(5.0, 10.0), rng.normal(0, 1.2))


def _add_occluder(
    canvas: Image.Image, box: tuple[int, int, int, int], rng: np.random.Generator
) -> None:
    """Draw a post, foliage or a pedestrian in front of the car."""
    draw = ImageDraw.Draw(canvas)
    x1, y1, x2, y2 = (SUPERSAMPLING * side for side in box)
    tone = tuple(int(c) for c in rng.integers(10, 120) * rng.uniform(0.7, 1.0, 3))
    x, wide = rng.uniform(x1, x2), (x2 - x1) * rng.uniform(0.02, 0.05)
    kind = rng.integers(3)
    if kind == 0:
        draw.rectangle((x, 0, x + wide, canvas.height), fill=tone)
    elif kind == 1:
        corner = x1 if rng.random() < 0.5 else x2
        for _ in range(40):
            cx, cy = rng.normal(corner, (x2 - x1) * 0.08), rng.normal(y1, (y2 - y1) * 0.15)
            draw.ellipse((cx - wide, cy - wide / 2, cx + wide, cy + wide / 2), fill=tone)
    else:
        top, foot = y1 + (y2 - y1) * rng.uniform(-0.1, 0.2), y2 * 1.04
        hip, head = (top + foot) / 2, 0.045 * (foot - top)
        draw.rounded_rectangle((x, top, x + 5 * head, hip + head), radius=2 * head, fill=tone)
        for leg in (0.4, 2.7):
            draw.rectangle((x + leg * head, hip, x + (leg + 1.9) * head, foot), fill=(28, 30, 38))
        middle = x + 2.5 * head
        draw.ellipse((middle - head, top - 2.6 * head, middle + head, top), fill=(150, 115, 95))


def develop(
    image: Image.Image, rng: np.random.Generator, noise: float, contrast: float = 1.0
) -> Image.Image:
    """Apply the camera's effects: exposure, white balance, contrast, softness, noise."""
    gain = rng.uniform(0.82, 1.18) * rng.uniform(0.94, 1.06, 3)
    contrast *= rng.uniform(0.85, 1.15)
    levels = np.arange(256)
    table = [np.clip((levels * g - 128) * contrast + 128, 0, 255) for g in gain]
    image = image.point(np.concatenate(table).astype(int).tolist())
    if rng.random() < 0.35:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9) * image.width / 480))
    grain = noise * rng.standard_normal((image.height, image.width, 1), dtype=np.float32)
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
