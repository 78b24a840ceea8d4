"""A surveillance-nature image: the front of a car, cropped from a camera above the road."""

import numpy as np
from PIL import Image, ImageFilter

from compcars.drawing.camera import Camera
from compcars.drawing.car import car_mesh
from compcars.drawing.designs import Design
from compcars.drawing.lighting import draw_paint
from compcars.drawing.photo import Photo, develop, expose
from compcars.drawing.render import SUPERSAMPLING, projected_box
from compcars.drawing.scene import Scene, draw_light

HEADLAMPS = np.array([[-0.3, 0.68, 0.0], [-0.3, -0.68, 0.0]])  # meters from the top of the nose
MOODS = {"overcast": 0.45, "sunny": 0.25, "dusk": 0.1, "night": 0.2}


def watch(design: Design, width: int, rng: np.random.Generator) -> Photo:
    """Return a traffic camera's crop of roughly ``width`` x ``width`` pixels."""
    mesh = car_mesh(design)
    mood = str(rng.choice(list(MOODS), p=list(MOODS.values())))
    scene = Scene("road", draw_light(rng, mood))
    paint, pigment = draw_paint(rng)
    side = max(int(width * rng.uniform(0.7, 1.1)), 16)
    size = (side, max(int(side * rng.uniform(0.78, 0.98)), 16))
    camera = Camera.around_car(
        rng.normal(0, 6), rng.uniform(8, 18), rng.uniform(8, 14), rng.normal(0, 1.5)
    ).framed(
        mesh.corners.reshape(-1, 3),
        size,
        fill=rng.uniform(0.82, 1.02),
        at=(rng.uniform(0.2, 0.8), rng.uniform(0.3, 0.7)),
    )
    image = expose(design, scene, camera, size, pigment, rng).reduce(SUPERSAMPLING)
    if scene.light.lamps:
        image = _with_glare(image, design, camera, 1.0 if mood == "night" else 0.35, rng)
    image = _with_flaws(image, mood, rng)
    return Photo(image, projected_box(mesh, camera, size), paint, int(rng.integers(35, 80)))


def _with_glare(
    image: Image.Image, design: Design, camera: Camera, strength: float, rng: np.random.Generator
) -> Image.Image:
    """Add the glare of the headlamps."""
    nose = np.array([design.body.length / 2, 0.0, design.body.nose - 0.08])
    spots = camera.project(nose + HEADLAMPS)
    y, x = np.ogrid[: image.height, : image.width]
    halo = np.zeros((image.height, image.width), np.float32)
    radius = image.width * rng.uniform(0.04, 0.10)
    for spot_x, spot_y in spots.astype(np.float32):
        distance = ((x - spot_x) ** 2 + (y - spot_y) ** 2).astype(np.float32) / radius**2
        halo += 190 / (1 + distance) ** 1.5
    lit = np.asarray(image) + strength * rng.uniform(0.4, 1.0) * halo[..., None] * [1.0, 0.96, 0.85]
    return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))


def _with_flaws(image: Image.Image, mood: str, rng: np.random.Generator) -> Image.Image:
    """Add the flaws of a cheap camera: motion blur, low resolution, haze and noise."""
    scale = image.width / 256
    speed = abs(rng.normal(0, 0.9)) * scale
    image = image.filter(ImageFilter.GaussianBlur((rng.uniform(0.2, 0.8) * scale, 0.3 + speed)))
    haze = rng.uniform(0, 0.20)
    gray = int(rng.integers(60, 190)) if mood != "night" else 25
    image = Image.blend(image, Image.new("RGB", image.size, (gray, gray, gray)), haze)
    return develop(image, rng, noise=rng.uniform(5, 12) if mood == "night" else rng.uniform(2, 7))
