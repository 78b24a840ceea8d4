"""Parts of a similarity: they sum to it, and each is the documented formula."""

from typing import Any

import numpy as np
import pytest
import torch

from retrieval.data.formats import InputError
from retrieval.model.embedding import EmbeddingModel, GeM, make_pooling
from retrieval.model.model_config import ModelConfig
from retrieval.model.tta import Views
from retrieval.photo_search.explanation import _by_position, overlay, similarity_maps
from retrieval.photo_search.query_encoder import QueryEncoder
from tests.conftest import ARCH

SIDE = 64


def make_encoder(
    arch: str = ARCH, views: Views | None = None, **config: Any
) -> tuple[QueryEncoder, np.ndarray]:
    """Return an encoder of random weights, and two images."""
    torch.manual_seed(3)
    model = EmbeddingModel(ModelConfig(arch, 12, SIDE, **config))
    torch.nn.init.normal_(model.projection.bias, std=0.1)
    if isinstance(model.neck, torch.nn.BatchNorm1d):
        model.neck.running_mean = torch.randn(12) * 0.1
        model.neck.running_var = torch.rand(12) + 0.5
    images = np.random.default_rng(5).integers(0, 256, (2, 3, SIDE, SIDE), dtype=np.uint8)
    images[1] = images[0] // 2 + images[1] // 2
    return QueryEncoder(model, views or Views(), torch.float32), images


@pytest.mark.parametrize(
    ("arch", "config"),
    [
        (ARCH, {"pool": "avg"}),
        (ARCH, {"pool": "avg", "neck": "after"}),
        (ARCH, {"pool": "gem", "neck": "after"}),
        (ARCH, {"pool": "max"}),
        (ARCH, {"pool": "avgmax"}),
        ("timm/test_efficientnet", {"pool": "avg", "neck": "after"}),
        ("timm/test_efficientnet", {"pool": "gem", "neck": "after"}),  # negative features, too
    ],
)
@pytest.mark.parametrize("views", [Views(), Views("flip", (1.0, 1.5))])
def test_parts_sum_to_the_similarity(arch: str, config: dict[str, str], views: Views) -> None:
    encoder, images = make_encoder(arch, views, **config)
    embeddings = encoder.embed(images).astype(np.float64)
    similarity = embeddings[0] @ embeddings[1]
    maps = similarity_maps(encoder, *images)
    tolerance = 1e-4 if config["pool"] == "gem" else 1e-5
    for parts in (maps.of_query, maps.of_answer):
        assert parts.ndim == 2 and parts.size > 1
        assert parts.sum() == pytest.approx(similarity, abs=tolerance)


def test_average_parts_are_inner_products_of_positions() -> None:
    encoder, images = make_encoder(pool="avg", neck="after")
    model = encoder.model
    with torch.no_grad():
        features = model.feature_map(torch.from_numpy(images))
        embeddings = model(torch.from_numpy(images))
        lengths = model.features(torch.from_numpy(images)).norm(dim=1)
        found = similarity_maps(encoder, *images).of_query
        n_position = features[0, 0].numel()
        for y, x in ((0, 0), (1, 1)):
            # The embedding is the mean over positions of neck(projection(features there)).
            there = model.neck(model.projection(features[:1, :, y, x]))[0] / n_position
            assert found[y, x] == pytest.approx(float(there @ embeddings[1] / lengths[0]), abs=1e-6)


def test_gem_parts_are_features_times_gradient() -> None:
    torch.manual_seed(0)
    pool, features = GeM(2.5), torch.rand(1, 3, 4, 4) + 0.1
    found = _by_position(pool, features)[0]
    pooled = pool(features)[0].detach()
    p = pool.p.item()
    formula = features[0] * (features[0] / pooled[:, None, None]) ** (p - 1) / 16
    torch.testing.assert_close(found, formula)
    torch.testing.assert_close(found.sum(dim=(1, 2)), pooled)


@pytest.mark.parametrize("kind", ["gem", "avg", "max", "avgmax"])
def test_parts_of_each_pooling_sum_to_it(kind: str) -> None:
    torch.manual_seed(0)
    pool, features = make_pooling(kind), torch.rand(2, 3, 4, 5)  # type: ignore[arg-type]
    torch.testing.assert_close(
        _by_position(pool, features).sum(dim=(2, 3)), pool(features).detach()
    )


def test_parts_lie_where_the_images_agree() -> None:
    encoder, _ = make_encoder(pool="avg")
    encoder.model.backbone = torch.nn.Sequential(torch.nn.AvgPool2d(16))  # 4 x 4 positions
    encoder.model.projection = torch.nn.Linear(3, 3)
    torch.nn.init.eye_(encoder.model.projection.weight)
    torch.nn.init.zeros_(encoder.model.projection.bias)
    encoder.model.mean.zero_()
    pair = np.zeros((2, 3, SIDE, SIDE), np.uint8)
    pair[0, 0, :16, :16] = 255  # red in a corner, green elsewhere
    pair[0, 1, 16:] = 255
    pair[1, 0] = 255  # red
    maps = similarity_maps(encoder, *pair)
    assert maps.of_query[0, 0] == pytest.approx(maps.of_query.sum())
    np.testing.assert_allclose(maps.of_answer, maps.of_answer[0, 0])


def test_a_transformer_has_no_feature_map() -> None:
    encoder, images = make_encoder("timm/test_vit", pool="avg")
    with pytest.raises(InputError, match="timm/test_vit has no feature map"):
        similarity_maps(encoder, *images)


def test_the_overlay_is_red_where_the_parts_are() -> None:
    square = np.full((3, 40, 40), 100, np.uint8)
    parts = np.array([[0.0, 0.0], [0.0, 0.8]])
    drawn = overlay(square, parts)
    assert drawn.shape == square.shape and drawn.dtype == np.uint8
    assert drawn[0, 36, 36] > 150 and drawn[2, 36, 36] < 80
    np.testing.assert_allclose(drawn[:, 3, 3], 100, atol=1)
    np.testing.assert_array_equal(overlay(square, -parts), square)
