"""Views of an image, and build_image_db with them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import build_image_db
from process_data import mips
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.model_config import ModelConfig
from retrieval.model.tta import Views, at_scale
from tests.model.test_embedding import random_images, small_model


@torch.inference_mode()
def test_the_embedding_is_the_normalized_mean_over_flips_and_scales() -> None:
    model, images = small_model().eval(), random_images(3)
    half = EmbeddingModel(ModelConfig("resnet18", 8, 16)).eval()
    half.load_state_dict(model.state_dict())
    views = [net(shown) for net in (model, half) for shown in (images, images.flip(3))]
    expected = F.normalize(torch.stack(views).mean(dim=0))
    torch.testing.assert_close(Views("flip", (1.0, 0.5)).embed(model, images), expected)
    assert torch.equal(Views().embed(model, images), model(images))


@torch.inference_mode()
def test_a_scaled_model_leaves_the_model_as_it_is() -> None:
    model = small_model()
    scaled = at_scale(model, 0.5)
    assert (model.config.side, scaled.config.side) == (32, 16)
    assert scaled.projection is model.projection


def test_a_transformer_has_one_size() -> None:
    pytest.importorskip("timm")
    model = EmbeddingModel(ModelConfig("timm/vit_tiny_patch16_224", 8, 32)).eval()
    with pytest.raises(InputError, match="takes images of 32 px only"):
        Views(scales=(1.0, 0.5)).embed(model, random_images(1))
    assert Views("flip").embed(model, random_images(1)).shape == (1, 8)
    assert at_scale(model, 1.0) is model  # as at the end of a training with --whitening


@torch.inference_mode()
def test_a_mirror_image_has_the_embedding_of_the_image() -> None:
    model, images = small_model().eval(), random_images(2)
    views = Views("flip")
    mirrored = views.embed(model, images.flip(3))
    torch.testing.assert_close(views.embed(model, images), mirrored)


def test_build_image_db_takes_the_switches_and_records_them(pipeline: Path) -> None:
    options = ["--tta=flip", "--scales=1,0.7071", "--adapt_bn", "--batch_size=8"]
    argv = [f"--dpath={pipeline}", f"--save_path={pipeline / 'para' / 'model.ep0'}", *options]
    argv += ["--input=test_image.npy", "--output=tdatabase_v.npy"]
    assert build_image_db.main(argv) == 0
    first = layout.DATABASE.at(pipeline, "tdatabase_v.npy").read_bytes()
    assert build_image_db.main(argv) == 0
    assert layout.DATABASE.at(pipeline, "tdatabase_v.npy").read_bytes() == first
    embeddings = layout.DATABASE.load(pipeline, "tdatabase_v.npy")
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    record = layout.DATABASE_RECORD.load(pipeline, "tdatabase_v.json")
    assert (record["tta"], record["scales"], record["adapt_bn"]) == ("flip", [1, 0.7071], True)
    # The same checkpoint: the search takes queries with the switches in a database without.
    mips.run(pipeline, k=3, test_matrix="tdatabase_v.npy")


def test_scales_that_are_no_scales_are_refused(pipeline: Path) -> None:
    with pytest.raises(InputError, match="--scales must be above 0"):
        build_image_db.run(pipeline, pipeline / "para" / "model.ep0", scales=(1.0, -1.0))
    argv = [f"--dpath={pipeline}", "--save_path=x", "--scales=1,half"]
    with pytest.raises(SystemExit):
        build_image_db.main(argv)
