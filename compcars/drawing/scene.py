"""The place of a photo and its light."""

from dataclasses import dataclass

import numpy as np

from compcars.drawing.lighting import Light

PLACES = ("street", "park", "yard", "studio", "open")


@dataclass(frozen=True)
class Scene:
    place: str  # one of PLACES, or road (for traffic cameras)
    light: Light


def draw_light(rng: np.random.Generator, mood: str) -> Light:
    """Draw the light of a mood: sunny, overcast, dusk, studio or night."""
    turn, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 1.1)
    direction = np.array(
        [np.cos(turn) * np.cos(height), np.sin(turn) * np.cos(height), np.sin(height)]
    )
    sun, zenith, horizon, ground, skyline = {
        "sunny": (
            [1.7, 1.6, 1.4],
            [0.22, 0.38, 0.75],
            [0.75, 0.85, 0.95],
            [0.24, 0.23, 0.21],
            0.10,
        ),
        "overcast": (
            [0.3, 0.3, 0.3],
            [0.75, 0.78, 0.82],
            [0.70, 0.72, 0.75],
            [0.20, 0.20, 0.20],
            0.10,
        ),
        "dusk": (
            [0.9, 0.5, 0.25],
            [0.12, 0.15, 0.30],
            [0.70, 0.45, 0.30],
            [0.12, 0.10, 0.10],
            0.14,
        ),
        "studio": (
            [0.8, 0.8, 0.8],
            [1.10, 1.10, 1.12],
            [0.35, 0.35, 0.37],
            [0.38, 0.38, 0.38],
            -0.2,
        ),
        "night": (
            [0.16, 0.13, 0.08],
            [0.010, 0.011, 0.016],
            [0.05, 0.045, 0.035],
            [0.03, 0.025, 0.02],
            0.2,
        ),
    }[mood]
    strength = rng.uniform(0.7, 1.2)
    return Light(
        sun_direction=direction,
        sun=np.array(sun) * strength * rng.uniform(0.6, 1.2),
        zenith=np.array(zenith) * strength,
        horizon=np.array(horizon) * strength,
        ground=np.array(ground) * strength * rng.uniform(0.7, 1.4),
        skyline=skyline * rng.uniform(0.4, 1.6),
        phase=rng.uniform(0, 2 * np.pi),
        lamps=float(rng.random() < 0.2) if mood != "night" else 1.0,
    )


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draw the place and light of a web-nature photo."""
    place = str(rng.choice(PLACES, p=[0.28, 0.22, 0.20, 0.12, 0.18]))
    mood = (
        "studio"
        if place == "studio"
        else str(rng.choice(["sunny", "overcast", "dusk"], p=[0.5, 0.37, 0.13]))
    )
    return Scene(place, draw_light(rng, mood))
