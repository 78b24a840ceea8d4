"""A folder of photos, one sub-folder per class: half of the classes train, half are searched."""

from pathlib import Path
from typing import Literal

from process_data import data_info, image_matrix, make_train_valid
from retrieval.data import layout


def prepare_photos(photos: Path, samples: Path, side: int) -> Path:
    """Make the images and the class-disjoint split of a folder of photos; return its folder."""
    data_dir = samples / f"{photos.name}-{side}"
    data_dir.mkdir(parents=True, exist_ok=True)
    name = layout.IMAGE_INDEX.name
    data_info.run(data_dir, str(photos.resolve()))
    crop: Literal["box", "none"] = "none"
    if "X1" in layout.IMAGE_INDEX.load(data_dir).columns:
        crop = "box"
    image_matrix.run(data_dir, name, str(photos.resolve()), image_resolution=side, crop=crop)
    make_train_valid.run(data_dir, name, protocol="classes")
    return data_dir
