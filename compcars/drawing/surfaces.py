"""Curved shells with a rounded-box footprint, and regions cut from them.

A point on a shell has two coordinates. ``q`` runs around the car: 0 is the middle of the front, 1
the front left corner, 2 the middle of the left side, 3 the rear left corner, 4 the middle of the
rear; it is negative on the right. ``v`` runs from the lower edge (0) to the upper edge (1). In plan
view, a shell is a superellipse |x|^p + |y|^p = 1, stretched to the length and width at that height.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Surface = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (q, v) -> (..., 3)
STATIONS = 33  # samples along a region's edge and along a shell's profiles


@dataclass(frozen=True)
class Shell:
    """Profiles over ``v`` (front and rear x, half width) and over x (lower and upper z), meters."""

    front: np.ndarray  # x of the foremost point at each of STATIONS heights
    rear: np.ndarray
    half_width: np.ndarray
    x: np.ndarray  # ascending stations along the car
    low: np.ndarray  # z of the lower edge at each x
    high: np.ndarray
    power: float  # 2: an ellipse, above 6: almost a box

    def __call__(self, q: np.ndarray, v: np.ndarray) -> np.ndarray:
        q, v = np.broadcast_arrays(np.asarray(q, float), np.asarray(v, float))
        turn = np.abs(q)
        # Walk along the boundary of the square |x|, |y| <= 1, then shrink it to the superellipse.
        along, across = np.clip(2 - turn, -1, 1), np.clip(np.minimum(turn, 4 - turn), 0, 1)
        norm = (np.abs(along) ** self.power + across**self.power) ** (1 / self.power)
        levels = np.linspace(0, 1, len(self.front))
        front, rear = np.interp(v, levels, self.front), np.interp(v, levels, self.rear)
        x = (front + rear) / 2 + (front - rear) / 2 * along / norm
        y = np.sign(q) * across / norm * np.interp(v, levels, self.half_width)
        low, high = np.interp(x, self.x, self.low), np.interp(x, self.x, self.high)
        return np.stack([x, y, low + v * (high - low)], axis=-1)

    def side_y(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return the half width of the shell at the points (x, z) of its left side."""
        low, high = np.interp(x, self.x, self.low), np.interp(x, self.x, self.high)
        v = np.clip((z - low) / (high - low), 0, 1)
        levels = np.linspace(0, 1, len(self.front))
        front, rear = np.interp(v, levels, self.front), np.interp(v, levels, self.rear)
        along = np.clip((x - (front + rear) / 2) / ((front - rear) / 2), -1, 1)
        across = (1 - np.abs(along) ** self.power) ** (1 / self.power)
        return across * np.interp(v, levels, self.half_width)


def lid(shell: Shell, crown: np.ndarray, dome: float = 0.0) -> Surface:
    """Return the surface that closes ``shell`` at the top: hood and deck, or the roof.

    Its coordinates are ``q`` from 0 (front) to 4 (rear) and ``v`` from -1 (right) to 1 (left).
    ``crown`` is the rise of the center line at each x station of the shell, ``dome`` the height of
    a bulge along the middle of the hood, both in meters.
    """

    def surface(q: np.ndarray, v: np.ndarray) -> np.ndarray:
        edge = shell(q, np.ones_like(q))
        x, y = edge[..., 0], edge[..., 1] * v
        rise = np.interp(x, shell.x, crown)
        bulge = dome * np.exp(-((v / 0.42) ** 6)) * np.clip((2 - q) * 3, 0, 1)
        z = edge[..., 2] + (rise + bulge * np.clip(rise / 0.05, 0, 1)) * (1 - np.abs(v) ** 3)
        return np.stack([x, y, z], axis=-1)

    return surface


def facing_rear(shell: Shell) -> Surface:
    """Return ``shell`` with q counted from the middle of the rear, increasing to the right."""

    def surface(q: np.ndarray, v: np.ndarray) -> np.ndarray:
        return shell(np.where(q > 0, q - 4, q + 4), v)

    return surface


@dataclass(frozen=True)
class Region:
    """The part of a surface between two values of ``q`` and two curves v(q)."""

    surface: Surface
    start: float
    stop: float
    low: np.ndarray  # v at STATIONS evenly spaced values of q
    high: np.ndarray

    def part(self, s0: float, s1: float, t0: float = 0.0, t1: float = 1.0) -> "Region":
        """Return the sub-region between fractions of the width and height."""
        s = np.linspace(s0, s1, STATIONS)
        stations = np.linspace(0, 1, len(self.low))
        low, high = np.interp(s, stations, self.low), np.interp(s, stations, self.high)
        width = self.stop - self.start
        return Region(
            self.surface,
            self.start + s0 * width,
            self.start + s1 * width,
            low + t0 * (high - low),
            low + t1 * (high - low),
        )

    def mirrored(self) -> "Region":
        """Return the region on the other side of the car."""
        return Region(self.surface, -self.stop, -self.start, self.low[::-1], self.high[::-1])

    def quads(self, columns: int, rows: int) -> np.ndarray:
        """Return (columns * rows, 4, 3) corners, counterclockwise as seen from outside."""
        s, t = np.linspace(0, 1, columns + 1), np.linspace(0, 1, rows + 1)
        stations = np.linspace(0, 1, len(self.low))
        low, high = np.interp(s, stations, self.low), np.interp(s, stations, self.high)
        q = np.broadcast_to(self.start + s * (self.stop - self.start), (rows + 1, columns + 1))
        points = self.surface(q, low + t[:, None] * (high - low))
        return grid_quads(points)


def grid_quads(points: np.ndarray) -> np.ndarray:
    """Cut a (rows + 1, columns + 1, 3) grid of points into (rows * columns, 4, 3) quads."""
    corners = [points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]]
    return np.stack(corners, axis=2).reshape(-1, 4, 3)


def region(surface: Surface, start: float, stop: float, low: object, high: object) -> Region:
    """Return a region; each edge is one v, or several at evenly spaced q.

    >>> strip = region(lambda q, v: np.stack([q, v, q], -1), 0, 1, 0.2, [0.4, 0.8])
    >>> strip.high[[0, 16, 32]].round(3).tolist()
    [0.4, 0.6, 0.8]
    """
    return Region(surface, start, stop, _edge(low), _edge(high))


def _edge(values: object) -> np.ndarray:
    knots = np.atleast_1d(np.asarray(values, float))
    return np.interp(np.linspace(0, 1, STATIONS), np.linspace(0, 1, len(knots)), knots)


def disc(surface: Surface, q: float, v: float, width: float, height: float) -> Region:
    """Return the ellipse of the given size in meters around a point of a surface."""
    at = np.array([q, q + 1e-3, q]), np.array([v, v, v + 1e-3])
    middle, right, above = surface(*at)
    half_q = width / 2 / (np.linalg.norm(right - middle) / 1e-3)
    half_v = height / 2 / (np.linalg.norm(above - middle) / 1e-3)
    bow = np.sqrt(1 - np.linspace(-1, 1, STATIONS) ** 2)
    return Region(surface, q - half_q, q + half_q, v - half_v * bow, v + half_v * bow)


def bowl(outline: Region, s: float, t: float, size: float) -> Region:
    """Return the circle around the point at fractions (s, t) of a region.

    ``size`` is its diameter as a fraction of the region's height there.
    """
    at = outline.part(s, s, t - size / 2, t + size / 2)
    q = np.array([at.start, at.start])
    below, above = at.surface(q, np.array([at.low[0], at.high[0]]))
    height = float(np.linalg.norm(above - below))
    return disc(at.surface, at.start, float(at.low[0] + at.high[0]) / 2, height, height)
