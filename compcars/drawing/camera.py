"""A pinhole camera around the car."""

from dataclasses import dataclass

import numpy as np

AIM = np.array([0.0, 0.0, 0.62])  # the camera looks at the middle of the car


@dataclass(frozen=True)
class Camera:
    """A pinhole camera; ``scale`` and ``shift``, in pixels, frame the picture."""

    eye: np.ndarray  # (3,) meters
    axes: np.ndarray  # (3, 3) rows: right, down, forward
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def around_car(
        cls, azimuth: float, elevation: float, distance: float, roll: float = 0.0
    ) -> "Camera":
        """Return a camera aimed at the car, ``distance`` meters away.

        Angles are in degrees; azimuth 0 is the front, 90 the left side.
        """
        a, e, r = np.radians([azimuth, elevation, roll])
        toward = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
        right = np.array([-np.sin(a), np.cos(a), 0.0])
        down = -np.cross(toward, right)
        right, down = np.cos(r) * right + np.sin(r) * down, np.cos(r) * down - np.sin(r) * right
        return cls(AIM + distance * toward, np.stack([right, down, -toward]))

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return the pixels (..., 2) of points (..., 3) in meters; x to the right, y down."""
        seen = (points - self.eye) @ self.axes.T
        plane = seen[..., :2] / np.maximum(seen[..., 2:], 0.05)
        return plane * self.scale + self.shift

    def framed(
        self, points: np.ndarray, size: tuple[int, int], fill: float, at: tuple[float, float]
    ) -> "Camera":
        """Return the camera zoomed and shifted so that the points' box fills the picture.

        Args:
            points: (n, 3) points to frame, in meters.
            size: Width and height of the picture in pixels.
            fill: Fraction of the width or height that the box takes, whichever limits it.
            at: Position of the box in the remaining space, x and y; (0.5, 0.5) centers it.
        """
        plane = Camera(self.eye, self.axes).project(points)
        low, high = plane.min(axis=0), plane.max(axis=0)
        room = np.array(size)
        scale = float(np.min(fill * room / (high - low)))
        shift = np.array(at) * (room - scale * (high - low)) - scale * low
        return Camera(self.eye, self.axes, scale, (float(shift[0]), float(shift[1])))

    @property
    def horizon(self) -> float:
        """The pixel row of the horizon at the center of the picture."""
        forward = self.axes[2] * [1, 1, 0]
        return float(self.project(self.eye + 1e4 * forward / np.linalg.norm(forward))[1])
