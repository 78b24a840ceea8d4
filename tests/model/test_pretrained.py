"""The pretrained weights that training starts from."""

from email.message import Message
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
import torch
import torchvision

from retrieval.data.formats import InputError
from retrieval.model import packaged_weights, pretrained
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.model_config import ModelConfig
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
    with pytest.raises(InputError, match="not a state dict"):
        pretrained.initialize(small_model(), str(path))


def fail_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every download end with an error, and the cache be empty."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    monkeypatch.setattr(pretrained, "_is_cached", lambda arch: False)


def test_offline_auto_warns_and_starts_from_random_weights(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail_with(URLError("no route to host"), monkeypatch)
    model = small_model()
    before = model.backbone.state_dict()["conv1.weight"].clone()
    assert pretrained.initialize(model, "auto") == pretrained.OFFLINE
    assert "RANDOM" in caplog.text
    torch.testing.assert_close(model.backbone.state_dict()["conv1.weight"], before)
    with pytest.raises(InputError, match="--weights=PATH"):
        pretrained.initialize(model, "imagenet")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError('invalid hash value (expected "f37072fd", got "0a1b2c3d")'),
        HTTPError("file", 404, "Not Found", Message(), None),
        IncompleteRead(b"half"),
        OSError("disk"),
        ConnectionResetError(),
        TimeoutError(),
    ],
)
def test_a_broken_download_stops_instead_of_starting_from_random_weights(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(error, monkeypatch)
    with pytest.raises(InputError, match="cannot be loaded .* --weights=none"):
        pretrained.initialize(small_model(), "auto")


ARCH = "timm/tf_efficientnet_lite0"
PACKAGE = packaged_weights.PACKAGES[ARCH]


def lite() -> EmbeddingModel:
    pytest.importorskip("timm")
    pytest.importorskip(PACKAGE.module)
    return EmbeddingModel(ModelConfig(ARCH, 8, SIDE))


def test_weights_inside_a_package_need_no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(URLError("no route to host"), monkeypatch)
    first, second = lite(), lite()
    assert pretrained.initialize(first, "auto").startswith(PACKAGE.name)
    assert pretrained.initialize(second, "imagenet").endswith(PACKAGE.sha256[:16])
    for one, other in zip(first.backbone.parameters(), second.backbone.parameters(), strict=True):
        assert torch.equal(one, other)
    # The stem sees edges and colors: its filters are not those of a random start.
    stem = first.backbone.state_dict()["net.conv_stem.weight"]
    assert stem.flatten(1).norm(dim=1).std() > 0.3


def test_the_cache_comes_before_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lite()
    state = model.backbone.net.state_dict()
    monkeypatch.setattr(pretrained, "_is_cached", lambda arch: True)
    monkeypatch.setattr(
        "retrieval.model.backbones.TimmBackbone.__init__",
        lambda self, *_, **__: torch.nn.Module.__init__(self) or setattr(self, "net", model),
    )
    monkeypatch.setattr(model, "state_dict", lambda: state)
    assert pretrained._published(ARCH, SIDE) == (ARCH, state)


def test_a_package_with_other_weights_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = lite()
    monkeypatch.setattr(pretrained, "_is_cached", lambda arch: False)
    other = tmp_path / "weights.pth"
    torch.save({}, other)
    monkeypatch.setattr(packaged_weights.WeightsPackage, "path", lambda self: other)
    with pytest.raises(InputError, match="known weights .* --force-reinstall"):
        pretrained.initialize(model, "auto")
    monkeypatch.setattr(packaged_weights.WeightsPackage, "path", lambda self: None)
    assert packaged_weights.load_packaged(ARCH) is None
    assert packaged_weights.load_packaged("resnet18") is None
