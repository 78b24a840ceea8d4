"""A published database without a trained model: small photos and random embeddings."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from process_data import image_matrix
from retrieval.data import layout, provenance
from tests.store.drawn_rows import DIM

PHOTOS = "photos"


def write_database(data_dir: Path, n: int = 24) -> np.ndarray:
    """Write photos, their csv, matrix, embeddings and records; return the embeddings."""
    rng = np.random.default_rng(5)
    folder = data_dir / PHOTOS
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n):
        pixels = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    numbers = np.arange(n)
    boxes = np.where(numbers[:, None] % 4 == 0, np.nan, [[2.0, 3.0, 30.0, 20.0]])
    table = pd.DataFrame(
        {
            "Path": [f"{number}.png" for number in numbers],
            "FileName": [f"{number}.png" for number in numbers],
            "View Point": np.where(numbers % 2, 1, 4),
            "Year": (2008 + numbers % 3).astype(str),
            "CarMake": 1 + numbers % 2,
            "Class": 1 + numbers % 4,
            "Index": numbers,
            **dict(zip(("X1", "Y1", "X2", "Y2"), boxes.T, strict=True)),
        }
    )
    layout.CAR_FRONT.save(data_dir, table)
    names = ["Alfa Romeo Mito", "Audi Q5", "Alfa Romeo Giulia", "Audi A4"]
    layout.CLASS_NAMES.save(data_dir, pd.DataFrame({"Class": range(1, 5), "ClassName": names}))
    image_matrix.run(data_dir, image_root_path=PHOTOS, image_resolution=32, crop="box")
    embeddings = rng.standard_normal((n, DIM), dtype=np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    layout.DATABASE.save(data_dir, embeddings)
    matrix = provenance.load_record(data_dir, layout.IMAGE_MATRIX.name, layout.IMAGE_MATRIX)
    assert matrix is not None
    record = {
        "checkpoint": "model.ep0",
        "checkpoint_sha256": "c" * 64,
        "dim": DIM,
        "tta": "none",
        "scales": [1.0],
        "adapt_bn": False,
        "precision": "float32",
        "images": layout.IMAGE_MATRIX.name,
        "images_sha256": f"{n:064x}",
        "index_sha256": matrix["index_sha256"],
        "preparation": provenance.preparation_of(matrix),
    }
    provenance.save_record(data_dir, layout.DATABASE.name, record)
    return embeddings
