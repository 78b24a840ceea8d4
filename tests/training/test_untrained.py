"""The untrained model: the pooled features of the backbone, by a command."""

from pathlib import Path

import numpy as np
import pytest
import torch

import build_image_db
import train
from process_data import mips
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.model import checkpoint
from retrieval.search.whitening import OWN_SHRINKAGE, fit_whitening
from retrieval.training.config import TrainingConfig
from retrieval.training.dataset import TrainingData
from tests.conftest import ARCH


def test_the_embedding_is_the_pooled_feature_map(pipeline: Path, tmp_path: Path) -> None:
    config = TrainingConfig(arch=ARCH, weights="none", epoch=0, pool="avg", seed=3)
    for file in (layout.TRAIN, layout.CLASS_IMAGES, layout.VALID_PAIRS):
        file.at(pipeline).rename(tmp_path / file.name)  # no labels are needed
    path = train.run(pipeline, tmp_path / "para", config)
    assert path.name == "model.untrained"
    content = checkpoint.load(path)
    model = checkpoint.build_model(content, path).eval()
    images = torch.from_numpy(np.array(layout.IMAGE_MATRIX.load(pipeline)[:2]))
    with torch.inference_mode():
        pixels = (images.float() / 255 - model.mean) / model.std
        pooled = model.backbone(pixels).mean(dim=(2, 3))
        torch.testing.assert_close(model(images), torch.nn.functional.normalize(pooled))
    for file in (layout.TRAIN, layout.CLASS_IMAGES, layout.VALID_PAIRS):
        (tmp_path / file.name).rename(file.at(pipeline))
    build_image_db.run(pipeline, path)
    build_image_db.run(pipeline, path, "test_image.npy", "tdatabase.npy")
    mips.run(pipeline, k=3, run_name="untrained")
    assert layout.METRICS.load(pipeline)["weights"] == "random initialization"


def untrained(data_dir: Path, **options: object) -> Path:
    small = {"arch": ARCH, "weights": "none", "pool": "avg", "device": "cpu", "epoch": 0}
    config = TrainingConfig(**{**small, **options})  # type: ignore[arg-type]
    return train.run(data_dir, data_dir / "untrained", config)


def pooled(data_dir: Path) -> np.ndarray:
    """Return the features of all images before any whitening."""
    path = untrained(data_dir)
    model = checkpoint.build_model(checkpoint.load(path), path).eval()
    images = torch.from_numpy(np.array(layout.IMAGE_MATRIX.load(data_dir)))
    with torch.inference_mode():
        return model.features(images).numpy()


def assert_whitens(
    data_dir: Path, path: Path, features: np.ndarray, mean: np.ndarray, matrix: np.ndarray
) -> None:
    """Check the embeddings of the images: an ordinary checkpoint makes them."""
    build_image_db.run(data_dir, path, output="u.npy", precision="float32")
    expected = (features - mean) @ matrix
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(layout.DATABASE.load(data_dir, "u.npy"), expected, atol=1e-4)


def test_whitening_takes_the_classes_of_the_training_photos(pipeline: Path) -> None:
    features, data = pooled(pipeline), TrainingData.load(pipeline)
    path = untrained(pipeline, whitening=True, dim=10)
    fitted = fit_whitening(features[data.rows], data.labels[data.rows], 10)
    assert_whitens(pipeline, path, features, *fitted)
    content = checkpoint.load(path)
    assert (content["domains"], content["split"]) == (["database"], data.split)
    assert content["model"]["dim"] == 10


def test_whitening_is_fitted_at_the_scale_of_encoding(pipeline: Path) -> None:
    path = untrained(pipeline, whitening=True, encode_scale=1.5)
    for output, scales in (("own.npy", None), ("one.npy", (1.0,))):
        build_image_db.run(pipeline, path, output=output, scales=scales, precision="float32")
    rows = TrainingData.load(pipeline).rows
    own, one = (layout.DATABASE.load(pipeline, name)[rows] for name in ("own.npy", "one.npy"))
    # What is centered points nowhere on average.
    assert np.linalg.norm(own.mean(axis=0)) < 0.5 * np.linalg.norm(one.mean(axis=0))


def test_without_a_split_whitening_takes_no_label(pipeline: Path) -> None:
    features = pooled(pipeline)
    layout.VALID_QUERIES.at(pipeline).unlink()
    path = untrained(pipeline, whitening=True)
    fitted = fit_whitening(features, None, shrinkage=OWN_SHRINKAGE)
    assert_whitens(pipeline, path, features, *fitted)
    assert checkpoint.load(path)["domains"] == []
    layout.IMAGE_MATRIX.save(pipeline, np.array(layout.IMAGE_MATRIX.load(pipeline)[:1]))
    with pytest.raises(InputError, match="do not differ"):
        untrained(pipeline, whitening=True)


def test_another_size_needs_a_whitening(pipeline: Path) -> None:
    with pytest.raises(InputError, match="add --whitening for another --dim"):
        untrained(pipeline, dim=8)


def test_a_resumed_run_passes_over_it(pipeline: Path, tmp_path: Path) -> None:
    config = TrainingConfig(recipe="ce", arch=ARCH, weights="none", epoch=0)
    first = train.run(pipeline, tmp_path, config).read_bytes()
    assert train.run(pipeline, tmp_path, config).read_bytes() == first
    trained = TrainingConfig(
        arch="timm/test_resnet", weights="none", dim=8, epoch=1, resume="auto", max_tuples=8
    )
    assert train.run(pipeline, tmp_path, trained).name == "model.ep0"
