"""The untrained model: the pooled features of the backbone, by a command."""

from pathlib import Path

import numpy as np
import torch

import build_image_db
import train
from process_data import mips
from retrieval.data import layout
from retrieval.model import checkpoint
from retrieval.training.config import TrainingConfig


def test_the_embedding_is_the_pooled_feature_map(pipeline: Path, tmp_path: Path) -> None:
    config = TrainingConfig(arch="resnet18", weights="none", epoch=0, pool="avg", seed=3)
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


def test_a_resumed_run_passes_over_it(pipeline: Path, tmp_path: Path) -> None:
    config = TrainingConfig(recipe="ce", arch="resnet18", weights="none", epoch=0)
    first = train.run(pipeline, tmp_path, config).read_bytes()
    assert train.run(pipeline, tmp_path, config).read_bytes() == first
    trained = TrainingConfig(
        arch="timm/test_resnet", weights="none", dim=8, epoch=1, resume="auto", max_tuples=8
    )
    assert train.run(pipeline, tmp_path, trained).name == "model.ep0"
