"""The embedding model, its first weights, its losses and its divided step."""

from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from retrieval.model.pooling import GeM

from retrieval.compute import devices
from retrieval.data.formats import InputError
from retrieval.model import backbones, pretrained
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.model_config import ModelConfig
from retrieval.training import augment, gradient_cache, tuples

SIDE = 32


def small_model(dim: int = 8, side: int = SIDE) -> EmbeddingModel:
    torch.manual_seed(0)
    return EmbeddingModel(ModelConfig("resnet18", dim, side))


def random_images(n: int, side: int = SIDE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=generator)


def test_embeddings_are_unit_vectors_of_float32() -> None:
    embeddings = small_model()(random_images(3))
    assert embeddings.shape == (3, 8)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))


def test_images_are_normalized_as_the_weights_expect() -> None:
    model = small_model().eval()
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(torch.full((1, 3, SIDE, SIDE), 255, dtype=torch.uint8))
    expected = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen[0][0, :, 0, 0], expected)


def test_images_of_another_size_are_scaled() -> None:
    model = small_model(side=48)
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    model(random_images(2))
    assert seen == [(2, 3, 48, 48)]


def test_gem_is_the_generalized_mean() -> None:
    features = torch.rand(2, 3, 4, 5)
    pool = GeM(p=3.0)
    expected = (features**3).mean(dim=(2, 3)) ** (1 / 3)
    torch.testing.assert_close(pool(features), expected)
    torch.testing.assert_close(GeM(p=1.0)(features), features.mean(dim=(2, 3)))
    torch.testing.assert_close(GeM(p=200.0)(features), features.amax(dim=(2, 3)), rtol=0.05, atol=0)
    pool(-features.bfloat16()).sum().backward()  # clamped: a power of a negative would be nan
    assert pool.p.grad is not None
    assert torch.isfinite(pool.p.grad)
    assert pool(features.bfloat16()).dtype == torch.float32


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


def test_backbone_widths() -> None:
    assert backbones.width("resnet18") == backbones.width("resnet34") == 512
    assert backbones.width("resnet50") == 2048


def test_tuple_loss_is_a_softmax_over_the_similarities() -> None:
    embeddings = torch.nn.functional.normalize(torch.randn(6, 4), dim=1)
    rows = torch.tensor([[0, 1, 2, 3], [4, 5, 0, 1]])
    expected = 0.0
    for anchor, *others in rows.tolist():
        scores = [float(embeddings[anchor] @ embeddings[other]) / 0.1 for other in others]
        expected -= scores[0] - np.log(np.exp(scores).sum())
    loss = tuples.tuple_loss(embeddings, rows, temperature=0.1)
    assert float(loss) == pytest.approx(expected / 2, rel=1e-5)


def test_batch_loss_takes_all_of_other_classes() -> None:
    embeddings = torch.nn.functional.normalize(torch.randn(6, 4), dim=1)
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    rows = torch.tensor([[0, 1, 3], [3, 4, 0]])
    expected = 0.0
    for anchor, positive in rows[:, :2].tolist():
        candidates = [positive] + [i for i in range(6) if labels[i] != labels[anchor]]
        scores = [float(embeddings[anchor] @ embeddings[i]) / 0.1 for i in candidates]
        expected -= scores[0] - np.log(np.exp(scores).sum())
    loss = tuples.batch_loss(embeddings, rows, labels, temperature=0.1)
    assert float(loss) == pytest.approx(expected / 2, rel=1e-5)


def gradients_of(model: EmbeddingModel, micro_batch: int) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad(set_to_none=True)
    rows = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 0], [2, 3, 1, 5]])
    loss = gradient_cache.accumulate_gradients(
        model,
        random_images(7, 64),
        partial(tuples.tuple_loss, tuples=rows, temperature=0.1),
        micro_batch,
        nullcontext,
    )
    return float(loss), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("micro_batch", [1, 3, 6])
def test_a_divided_step_has_the_gradients_of_the_whole(micro_batch: int) -> None:
    model = small_model(side=64).eval()  # at 32 px, one value is pooled and p has no effect
    loss, whole = gradients_of(model, 7)
    divided_loss, divided = gradients_of(model, micro_batch)
    assert divided_loss == pytest.approx(loss, rel=1e-5)
    assert divided.keys() == whole.keys() == dict(model.named_parameters()).keys()
    for name, gradient in whole.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(divided[name], gradient, rtol=1e-3, atol=1e-4 * scale)


def test_running_statistics_are_updated_once_for_each_chunk() -> None:
    model = small_model(side=64).train()
    reference = small_model(side=64).train()
    gradients_of(model, 3)
    for chunk in random_images(7, 64).split([3, 2, 2]):
        reference(chunk)
    for name, value in model.backbone.bn1.named_buffers():
        if name != "num_batches_tracked":
            torch.testing.assert_close(value, dict(reference.backbone.bn1.named_buffers())[name])


def test_the_measured_micro_batch_follows_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    sizes = []
    for memory in (1 << 30, 4 << 30):
        monkeypatch.setattr(devices, "total_memory", lambda _, memory=memory: memory)
        sizes.append(gradient_cache.micro_batch_that_fits(model, SIDE, nullcontext))
    assert sizes[1] == pytest.approx(4 * sizes[0], rel=0.05)
    larger = gradient_cache.micro_batch_that_fits(small_model(side=64), 64, nullcontext)
    assert larger == pytest.approx(sizes[1] / 4, rel=0.1)


def test_weights_in_another_precision_are_not_counted_as_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "total_memory", lambda _: 16 << 30)
    found = []
    for autocast in (nullcontext, partial(devices.autocast, torch.device("cpu"), torch.bfloat16)):
        found.append(gradient_cache.micro_batch_that_fits(small_model(), SIDE, autocast))
    assert found[1] > found[0]  # activations of half the bytes, though the weights are cast


@pytest.mark.parametrize("kind", ["none", "camera", "light", "strong"])
def test_augmentation_keeps_the_form(kind: augment.Augmentation) -> None:
    images = random_images(4)
    torch.manual_seed(3)
    changed = augment.apply(kind, images)
    assert changed.shape == images.shape
    assert changed.dtype == torch.uint8
    assert torch.equal(changed, images) == (kind == "none")
    torch.manual_seed(3)
    assert torch.equal(augment.apply(kind, images), changed)


def test_augmentation_of_nothing_is_the_image_or_its_mirror_image() -> None:
    images = random_images(1).expand(20, -1, -1, -1)
    changed = augment.Augment(smallest_crop=1, stretch=1, jitter=0)(images)
    is_same = (changed == images).flatten(1).all(1)
    is_mirrored = (changed == images.flip(3)).flatten(1).all(1)
    assert (is_same ^ is_mirrored).all()
    assert is_same.any()
    assert is_mirrored.any()


def test_augmentation_never_looks_outside_and_can_take_the_color() -> None:
    images = torch.full((8, 3, SIDE, SIDE), 90, dtype=torch.uint8)
    images[:, 0] = 200
    crops = augment.Augment(smallest_crop=0.3, jitter=0)(images)
    torch.testing.assert_close(crops, images, atol=1, rtol=0)  # no border comes into view
    grey = augment.Augment(jitter=0, grey=1)(images)
    assert (grey.amax(1) - grey.amin(1)).max() <= 1


def test_devices() -> None:
    assert devices.choose("cpu") == torch.device("cpu")
    for name in ("tpu", "meta", "cuda:99"):
        with pytest.raises(InputError, match=f"--device={name}"):
            devices.choose(name)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_embeds_as_the_cpu_does() -> None:
    model = small_model().eval()
    images = random_images(5)
    expected = model(images)
    found = model.cuda()(images.cuda()).cpu()
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3)
