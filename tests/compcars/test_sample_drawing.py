"""The drawings of the sample: geometry, boxes, and that paint says nothing about the model."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from compcars.drawing.camera import Camera
from compcars.drawing.car import car_mesh
from compcars.drawing.designs import draw_designs, facelift
from compcars.drawing.lighting import PAINTS, draw_paint, shade
from compcars.drawing.mesh import Layer
from compcars.drawing.photo import take_photo
from compcars.drawing.render import (
    SUPERSAMPLING,
    draw_car,
    projected_box,
    visible_quads,
)
from compcars.drawing.scene import draw_light
from compcars.drawing.surveillance import watch

DESIGNS = draw_designs(24, seed=7)
SIZE = (96, 64)


def rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


@pytest.mark.parametrize("design", DESIGNS[::5], ids=lambda design: design.body.kind)
def test_the_mesh_is_a_closed_car_on_the_road(design) -> None:
    mesh, body = car_mesh(design), design.body
    low, high = mesh.corners.reshape(-1, 3).min(axis=0), mesh.corners.reshape(-1, 3).max(axis=0)
    assert abs(low[2]) < 0.01
    assert high[2] == pytest.approx(body.height, abs=0.08)
    assert high[0] - low[0] == pytest.approx(body.length, rel=0.02)
    shell = mesh.layer == Layer.BODY
    outward = mesh.middles[shell] - [0, 0, body.clearance]
    assert ((outward[:, :2] * mesh.normals[shell, :2]).sum(axis=1) > -1e-6).mean() > 0.99
    lid = mesh.layer == Layer.LID
    assert (mesh.normals[lid, 2] > -1e-6).all()


@pytest.mark.parametrize("azimuth", [0, 35, 90, 140, 180, -60])
def test_the_box_is_that_of_the_drawn_pixels(azimuth: float) -> None:
    mesh = car_mesh(DESIGNS[3])
    points = mesh.corners.reshape(-1, 3)
    camera = Camera.around_car(azimuth, 8, 7).framed(points, SIZE, 0.8, (0.4, 0.6))
    canvas = Image.new("RGB", (SIZE[0] * SUPERSAMPLING, SIZE[1] * SUPERSAMPLING), (255, 0, 255))
    blank = np.asarray(canvas)
    light = draw_light(rng(1), "overcast")
    draw_car(canvas, mesh, camera, light, np.full(3, 0.3), np.full(3, 0.5))
    y, x = np.nonzero((np.asarray(canvas) != blank).any(axis=2))
    drawn = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) / SUPERSAMPLING
    assert np.abs(drawn - projected_box(mesh, camera, SIZE)).max() <= 1.5


def test_a_box_is_cut_at_the_edge_of_the_picture() -> None:
    mesh = car_mesh(DESIGNS[0])
    camera = Camera.around_car(30, 8, 7).framed(mesh.corners.reshape(-1, 3), SIZE, 1.5, (0.5, 0.5))
    assert projected_box(mesh, camera, SIZE)[::2] == (0, SIZE[0])


def test_framed_points_fill_the_picture() -> None:
    points = rng(2).uniform(-1, 1, (50, 3))
    camera = Camera.around_car(20, 5, 8).framed(points, SIZE, 0.9, (0.0, 1.0))
    pixels = camera.project(points)
    extent = np.ptp(pixels, axis=0) / SIZE
    assert extent.max() == pytest.approx(0.9)
    assert pixels[:, 0].min() == pytest.approx(0)
    assert pixels[:, 1].max() == pytest.approx(SIZE[1])


def test_the_left_of_the_car_is_on_the_right_from_the_front() -> None:
    camera = Camera.around_car(0, 5, 8)
    left, right = camera.project(np.array([[0, 1, 0.5], [0, -1, 0.5]]))
    assert left[0] > right[0]
    up, down = camera.project(np.array([[0, 0, 1.0], [0, 0, 0.0]]))
    assert up[1] < down[1]


def test_a_flank_is_seen_from_its_own_side_only() -> None:
    mesh = car_mesh(DESIGNS[1])
    eye = Camera.around_car(60, 8, 7).eye
    layers = np.where(mesh.side == 0, -1, mesh.layer)
    order = visible_quads(mesh, eye)
    right = np.flatnonzero(mesh.side[order] == -1)
    body = np.flatnonzero(layers[order] == -1)[mesh.layer[order][mesh.side[order] == 0] == 1]
    assert right.max(initial=-1) < body.min()


@pytest.mark.parametrize("seed", range(6))
def test_the_paint_does_not_depend_on_the_model(seed: int) -> None:
    web = {take_photo(design, 4, SIZE, rng(seed)).paint for design in DESIGNS[::4]}
    watched = {watch(design, 40, rng(seed)).paint for design in DESIGNS[::4]}
    assert len(web) == len(watched) == 1


def test_paints_come_as_often_as_they_should() -> None:
    stream, n = rng(3), 4000
    drawn = [draw_paint(stream)[0] for _ in range(n)]
    total = sum(weight for weight, _, _ in PAINTS.values())
    for name, (weight, _, _) in PAINTS.items():
        expected = weight / total
        assert drawn.count(name) / n == pytest.approx(expected, abs=4 * (expected / n) ** 0.5)


def test_models_of_a_make_share_the_family_face_and_differ() -> None:
    for make in range(6):
        faces = [design.face for design in DESIGNS if design.make == make]
        assert len({(face.grille, face.pattern, face.badge, face.chrome) for face in faces}) == 1
        assert len({face.lamp.shape for face in faces}) > 1
    assert len(set(DESIGNS)) == len(DESIGNS)
    assert len({design.face.grille for design in DESIGNS}) == 6


def test_a_facelift_keeps_the_car() -> None:
    for design in DESIGNS:
        later = facelift(design, seed=7)
        assert later != design
        assert later.body == design.body
        assert later.face.lamp == design.face.lamp
        assert replace(later, face=design.face, wheels=design.wheels) == design


def test_night_is_darker_than_day() -> None:
    mesh = car_mesh(DESIGNS[2])
    eye = Camera.around_car(10, 12, 9).eye
    quads = visible_quads(mesh, eye)
    white = np.full(3, 0.8)
    means = {}
    for mood in ("sunny", "overcast", "dusk", "night"):
        light = replace(draw_light(rng(4), mood), lamps=0.0)
        colors = shade(mesh, quads, eye, light, white, white)
        assert colors.dtype == np.uint8
        means[mood] = colors.mean()
    assert means["night"] < means["dusk"] < means["sunny"]
    assert means["night"] < 60 < means["overcast"]


@pytest.mark.parametrize("viewpoint", [-1, 1, 2, 3, 4, 5])
def test_a_photo_has_the_asked_size(viewpoint: int) -> None:
    photo = take_photo(DESIGNS[4], viewpoint, SIZE, rng(5, viewpoint + 1))
    assert photo.image.size == SIZE
    x1, y1, x2, y2 = photo.box
    assert 0 <= x1 < x2 <= SIZE[0]
    assert 0 <= y1 < y2 <= SIZE[1]
    assert (x2 - x1) / SIZE[0] > 0.3 or (y2 - y1) / SIZE[1] > 0.5
