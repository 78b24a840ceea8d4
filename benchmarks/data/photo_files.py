"""JPEG files of typical photo sizes with camera noise, for realistic decoding costs.

Drawn cars are enlarged and grained until the files are about as large as photographs.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from compcars.drawing.photo import take_photo
from compcars.sample_catalogue import draw_catalogue

DRAWN = (480, 320)
# width, height: standard deviation of the noise, JPEG quality
SIZES = {(480, 320): (4.0, 90), (920, 620): (3.0, 90), (4000, 3000): (4.0, 92)}


def write_photos(folder: Path, size: tuple[int, int], count: int, seed: int = 7) -> list[Path]:
    """Write ``count`` different photos of a size into ``folder``, unless they exist."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i}.jpg" for i in range(count)]
    models = draw_catalogue(8, seed).models
    noise, quality = SIZES.get(size, (3.0, 90))
    for i, path in enumerate(paths):
        if path.exists():
            continue
        rng = np.random.default_rng((seed, i))
        viewpoint = (1, 4)[i % 2]
        drawn = take_photo(models[i % len(models)].design, viewpoint, DRAWN, rng).image
        pixels = np.asarray(drawn.resize(size, Image.Resampling.BICUBIC)).astype(np.float32)
        pixels += noise * rng.standard_normal(pixels.shape, dtype=np.float32)
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(path, quality=quality)
    return paths
