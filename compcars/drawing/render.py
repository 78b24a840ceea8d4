"""Draw the quads of a car over a backdrop."""

import numpy as np
from PIL import Image, ImageDraw

from compcars.drawing.camera import Camera
from compcars.drawing.lighting import Light, shade
from compcars.drawing.mesh import Layer, Mesh

FLANK = 0.85  # meters from the center of a car to its flank plane, a lower bound
SUPERSAMPLING = 2  # antialiasing: draw larger by this factor, then average


def visible_quads(mesh: Mesh, eye: np.ndarray) -> np.ndarray:
    """Return the indexes of the quads that face the camera, in drawing order."""
    facing = np.flatnonzero(((eye - mesh.middles) * mesh.normals).sum(axis=1) > 0)
    # The parts of a flank are in front of the body only for a camera beyond the flank plane.
    far = (mesh.side[facing] != 0) & (mesh.side[facing] * eye[1] < FLANK)
    layer = np.where(far, Layer.BEHIND, mesh.layer[facing])
    return facing[np.argsort(layer, kind="stable")]


def draw_car(
    image: Image.Image,
    mesh: Mesh,
    camera: Camera,
    light: Light,
    paint: np.ndarray,
    plate: np.ndarray,
) -> None:
    """Draw a car onto ``image``, which is SUPERSAMPLING times the size of the camera's picture."""
    quads = visible_quads(mesh, camera.eye)
    colors = shade(mesh, quads, camera.eye, light, paint, plate).astype(np.int64)
    inks = colors @ [1, 256, 65536]  # Pillow's packed RGB
    corners = SUPERSAMPLING * camera.project(mesh.corners[quads]) - 0.5
    draw = ImageDraw.Draw(image)
    for polygon, ink in zip(corners.reshape(-1, 8).tolist(), inks.tolist(), strict=True):
        draw.polygon(polygon, fill=ink)


def projected_box(mesh: Mesh, camera: Camera, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the car's bounding box x1, y1, x2, y2 in pixels, 0-based, end exclusive."""
    points = camera.project(mesh.corners.reshape(-1, 3))
    low = np.clip(np.floor(points.min(axis=0)).astype(int), 0, np.array(size) - 1)
    high = np.clip(np.ceil(points.max(axis=0)).astype(int), low + 1, size)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
