"""The pretrained weights that training starts from."""

from pathlib import Path

import pytest
import torch
import torchvision

from retrieval.data.formats import InputError
from retrieval.model import pretrained
from tests.model.test_embedding import SIDE, small_model


def test_the_backbone_takes_torchvision_weights(tmp_path: Path) -> None:
    resnet = torchvision.models.resnet18(weights=None)
    torch.save(resnet.state_dict(), tmp_path / "w.pth")
    model = small_model()
    assert pretrained.initialize(model, str(tmp_path / "w.pth")) == str(tmp_path / "w.pth")
    images = torch.rand(2, 3, SIDE, SIDE)
    resnet.fc = torch.nn.Identity()  # type: ignore[assignment]
    pooled = model.eval().backbone(images).mean(dim=(2, 3))
    torch.testing.assert_close(pooled, resnet.eval()(images))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    with pytest.raises(InputError, match="is missing"):
        pretrained.initialize(small_model(), str(path))
    torch.save(torchvision.models.resnet34(weights=None).state_dict(), path)
    with pytest.raises(InputError, match="does not fit the backbone of --arch=resnet18"):
        pretrained.initialize(small_model(), str(path))
    path.write_bytes(b"no weights")
    with pytest.raises(InputError, match="no state dict"):
        pretrained.initialize(small_model(), str(path))


def test_without_imagenet_weights_auto_warns_and_imagenet_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    model = small_model()
    before = model.backbone.state_dict()["conv1.weight"].clone()
    assert "random" in pretrained.initialize(model, "auto")
    assert "RANDOM" in caplog.text
    torch.testing.assert_close(model.backbone.state_dict()["conv1.weight"], before)
    with pytest.raises(InputError, match="--weights=PATH"):
        pretrained.initialize(model, "imagenet")
