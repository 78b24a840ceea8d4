"""Backbones, pooling and the neck."""

from pathlib import Path

import pytest
import torch

from retrieval.data.formats import InputError
from retrieval.model import backbones, checkpoint, pretrained
from retrieval.model.embedding import EmbeddingModel, make_pooling
from retrieval.model.model_config import ModelConfig, check_arch

SIDE = 32
IMAGES = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
CONVNET, TRANSFORMER = "timm/test_resnet", "timm/test_vit"


def test_each_pooling_by_hand() -> None:
    features = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    for kind, expected in (
        ("avg", 3.0),
        ("max", 6.0),
        ("avgmax", 9.0),
        ("gem", ((1 + 8 + 27 + 216) / 4) ** (1 / 3)),
    ):
        found = make_pooling(kind)(features)  # type: ignore[arg-type]
        assert found.shape == (1, 1)
        assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("arch", ["resnet18", CONVNET, TRANSFORMER])
def test_embeddings_of_any_backbone(arch: str) -> None:
    pytest.importorskip("timm")
    mean, std = backbones.normalization(arch)
    model = EmbeddingModel(ModelConfig(arch, 8, SIDE, mean, std, "avgmax")).eval()
    found = model(IMAGES)
    assert found.shape == (2, 8)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    assert model.projection.in_features == backbones.width(arch, SIDE)


def test_a_timm_backbone_takes_weights_and_keeps_them(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    whole = timm.create_model("test_resnet", num_classes=5)
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    model = EmbeddingModel(ModelConfig(CONVNET, 8, SIDE)).eval()
    pretrained.initialize(model, str(tmp_path / "w.pth"))
    pixels = torch.rand(2, 3, SIDE, SIDE)
    torch.testing.assert_close(model.backbone(pixels), whole.eval().forward_features(pixels))
    path = tmp_path / "model.ep0"
    checkpoint.save(
        path,
        model,
        epoch=0,
        weights="x",
        domains=[],
        split={},
        held_out=[],
        options={},
        metrics={},
        frozen_norms=False,
    )
    again = checkpoint.build_model(checkpoint.load(path), path).eval()
    torch.testing.assert_close(again(IMAGES), model(IMAGES))
    torch.save({"conv.weight": torch.ones(1)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="does not fit the backbone"):
        pretrained.initialize(model, str(tmp_path / "w.pth"))


def test_unknown_backbones_are_refused() -> None:
    pytest.importorskip("timm")
    refused = (
        ("vgg", "or timm/NAME"),
        ("timm/no_such", "timm has no model no_such"),
        ("timm/resnet18.no_tag", "timm has no model resnet18.no_tag"),
    )
    for arch, message in refused:
        with pytest.raises(InputError, match=message):
            check_arch(arch)
    for arch in (CONVNET, "timm/resnet18.a1_in1k"):
        assert check_arch(arch) == arch


def test_the_neck_is_a_batch_norm_before_the_unit_norm() -> None:
    torch.manual_seed(0)
    model = EmbeddingModel(ModelConfig("resnet18", 4, SIDE, neck="after")).train()
    features = model.features(torch.randint(0, 256, (8, 3, SIDE, SIDE), dtype=torch.uint8))
    torch.testing.assert_close(features.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    assert [name for name, _ in model.neck.named_parameters()] == []


def test_frozen_norms_stay_as_they_are() -> None:
    model = EmbeddingModel(ModelConfig("resnet18", 4, SIDE, neck="after"))
    model.freeze_norms()
    model.train()
    before = {name: value.clone() for name, value in model.backbone.named_buffers()}
    model.features(IMAGES).sum().backward()
    for name, value in model.backbone.named_buffers():
        assert torch.equal(value, before[name])
    assert model.neck.training
    assert model.backbone.bn1.weight.grad is None
    assert model.backbone.conv1.weight.grad is not None


def test_backbone_widths() -> None:
    assert backbones.width("resnet18") == backbones.width("resnet34") == 512
    assert backbones.width("resnet50") == 2048
