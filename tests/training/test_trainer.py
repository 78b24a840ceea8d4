"""Steps of training: what is left alone, what stops them, what they are divided into."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from retrieval.compute import devices
from retrieval.data.formats import InputError
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.model_config import ModelConfig
from retrieval.training.config import TrainingConfig
from retrieval.training.monitor import Monitor
from retrieval.training.recipes import resolve_config
from retrieval.training.step_loader import StepInput
from retrieval.training.trainer import Trainer
from tests.conftest import ARCH
from tests.drawn import drawn_data

SIDE = 64
CONFIG = resolve_config(
    TrainingConfig(arch=ARCH, loss="ce", epoch=4, lr=1e-3, augmentation="none", seed=0)
)


def make(
    config: TrainingConfig,
    micro_batch: int = 100,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    arch: str = ARCH,
) -> Trainer:
    """Return the trainer of a small model, in training mode."""
    torch.manual_seed(0)
    neck = "none" if config.neck == "before" else config.neck
    model = EmbeddingModel(ModelConfig(arch, 8, SIDE, neck=neck)).to(device)
    session = Trainer(replace(config, micro_batch=micro_batch), drawn_data(), model, dtype)
    session.model.train()
    return session


def given(n: int = 8, n_filled: int = 0, device: str = "cpu") -> StepInput:
    """Return a step of random images of four classes, filled up with its first ones."""
    images = np.random.default_rng(0).integers(0, 256, (n, 3, SIDE, SIDE), dtype=np.uint8)
    filled = np.resize(images, (n_filled or n, *images.shape[1:]))
    labels, part = torch.arange(n) % 4, range(len(filled))
    images = torch.from_numpy(filled).to(device)
    return StepInput(n, len(filled), part, images, labels.to(device), None)


def backbone_of(session: Trainer) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in session.model.backbone.state_dict().items()}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_frozen_epochs_leave_the_backbone_as_it_is(optimizer: str) -> None:
    options: dict[str, Any] = {"optimizer": optimizer, "momentum": 0.9, "weight_decay": 0.1}
    session = make(replace(CONFIG, frozen_epochs=2, clip=1.0, **options))
    before, head = backbone_of(session), session.model.projection.weight.detach().clone()
    for done in (0.0, 0.5, 1.9):
        session.step(given(), done)
    for key, value in backbone_of(session).items():
        assert torch.equal(value, before[key])
    assert not torch.equal(session.model.projection.weight, head)
    backbone = list(session.model.backbone.parameters())
    assert all(p.grad is None and p not in session.optimizer.state for p in backbone)
    session.step(given(), 2.25)
    after = backbone_of(session)
    assert all(p.grad is not None for p in backbone)
    assert all(
        not torch.equal(after[key], before[key]) for key in ("net.conv1.0.weight", "net.bn1.bias")
    )
    assert not torch.equal(after["net.bn1.running_mean"], before["net.bn1.running_mean"])


def test_norms_that_stay_frozen_are_not_released_with_the_backbone() -> None:
    config = replace(CONFIG, frozen_epochs=1, micro_batch=100)
    torch.manual_seed(0)
    model = EmbeddingModel(ModelConfig(ARCH, 8, SIDE))
    model.freeze_norms()
    session = Trainer(config, drawn_data(), model.train(), torch.float32)
    before = backbone_of(session)
    for done in (0.5, 1.5):
        session.step(given(), done)
    after = backbone_of(session)
    assert torch.equal(after["net.bn1.running_mean"], before["net.bn1.running_mean"])
    assert torch.equal(after["net.bn1.weight"], before["net.bn1.weight"])
    assert not torch.equal(after["net.conv1.0.weight"], before["net.conv1.0.weight"])


class NoSlope(torch.autograd.Function):
    """The value as it is, with a gradient that is not finite."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return gradient * torch.nan


def step_without_slope(
    session: Trainer, device: str, monkeypatch: pytest.MonkeyPatch
) -> list[float]:
    """Take a step whose gradients are not finite, and return its figures."""
    whole = session.loss.forward
    with monkeypatch.context() as changed:
        changed.setattr(session.loss, "forward", lambda *args: NoSlope.apply(whole(*args)))
        return session.step(given(device=device), 0.0).wait().tolist()


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_gradients_that_are_not_finite_stop_training(
    clip: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = make(replace(CONFIG, clip=clip))
    *_, norm = session.step(given(), 0.0).wait()
    squares = [p.grad.square().sum() for p in session.parameters() if p.grad is not None]
    if not clip:
        assert norm == pytest.approx(float(torch.stack(squares).sum().sqrt()), rel=1e-4)
    session.check_weights()
    figures = step_without_slope(session, "cpu", monkeypatch)
    assert np.isfinite(figures[0])
    with pytest.raises(InputError, match="norm of the gradients is nan at step 1 of epoch 3"):
        Monitor(3).note(*figures)
    with pytest.raises(InputError, match="weights are no longer finite"):
        session.check_weights()


def scaled(scale: float) -> Trainer:
    """Return a trainer that multiplies the loss, as it does for float16."""
    session = make(CONFIG)
    session.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return session


def test_a_scaled_loss_gives_the_same_step() -> None:
    plain, other = make(CONFIG), scaled(2.0**10)
    assert not plain.scaler.is_enabled()
    figures = [session.step(given(), 0.0).wait() for session in (plain, other)]
    np.testing.assert_array_equal(*figures)
    for one, two in zip(plain.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_step_that_overflows_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    session = scaled(4.0)
    before = backbone_of(session)
    figures = step_without_slope(session, "cpu", monkeypatch)
    Monitor(0).note(*figures)
    session.check_weights()
    assert torch.equal(backbone_of(session)["net.conv1.0.weight"], before["net.conv1.0.weight"])
    assert session.scaler.get_scale() == 2.0
    again = make(CONFIG)
    again.scaler = torch.amp.GradScaler("cpu")
    again.restore(session.state(), "model.ep0")
    assert again.scaler.get_scale() == 2.0
    with pytest.raises(InputError, match="all 1 steps overflow in float16"):
        devices.check_steps(session.scaler, 4.0, 1)
    session.step(given(), 0.0)
    assert not torch.equal(backbone_of(session)["net.conv1.0.weight"], before["net.conv1.0.weight"])
    devices.check_steps(session.scaler, 4.0, 2)


CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ],
)


@pytest.mark.parametrize("device", ["cpu", CUDA])  # where optimizers are fused
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_first_step_that_overflows_leaves_no_trace(
    optimizer: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"optimizer": optimizer, "momentum": 0.9}
    found = []
    for overflows in (True, False):
        session = make(replace(CONFIG, **options), device=device)
        session.scaler = torch.amp.GradScaler(device, init_scale=4.0)
        if overflows:
            step_without_slope(session, device, monkeypatch)
        session.model.load_state_dict(make(CONFIG).model.state_dict())  # statistics of batch norm
        session.step(given(device=device), 0.0)
        found.append(backbone_of(session)["net.conv1.0.weight"])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_training_in_float16_follows_float32(device: str) -> None:
    # Some CPUs take a second for each convolution in float16.
    whole = make(CONFIG, device=device, arch=ARCH)
    half = make(CONFIG, dtype=torch.float16, device=device, arch=ARCH)
    assert half.scaler.is_enabled() and not whole.scaler.is_enabled()
    half.scaler = torch.amp.GradScaler(device, init_scale=16.0)
    before, same = half.model.projection.weight.detach().clone(), given(device=device)
    losses = [[one.step(same, 0.0).wait()[0] for _ in range(3)] for one in (whole, half)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.1)
    assert half.scaler.get_scale() == 16.0  # no step was left out
    assert not torch.equal(half.model.projection.weight, before)


@pytest.mark.parametrize("neck", ["after", "before"])
@pytest.mark.parametrize("loss", ["ce", "ce+triplet"])
@pytest.mark.parametrize("micro_batch", [1, 3, 7])
def test_a_divided_step_with_a_neck_is_the_whole(loss: Any, neck: Any, micro_batch: int) -> None:
    found = []
    for size in (100, micro_batch):
        session = make(replace(CONFIG, loss=loss, neck=neck), size)
        session.model.freeze_norms()  # those of the backbone take chunks as they are
        figures = session.step(given(8, n_filled=9), 0.0).wait()
        modules = {"model": session.model, "loss": session.loss}
        gradients = {
            f"{name}.{key}": p.grad
            for name, module in modules.items()
            for key, p in module.named_parameters()
            if p.grad is not None
        }
        found.append((figures, gradients, dict(session.model.neck.named_buffers())))
    (figures, whole, statistics), (divided_figures, divided, divided_statistics) = found
    np.testing.assert_allclose(divided_figures, figures, rtol=1e-4, atol=1e-6)
    assert divided.keys() == whole.keys()
    largest = max(float(gradient.abs().max()) for gradient in whole.values())
    for key, gradient in whole.items():
        torch.testing.assert_close(divided[key], gradient, rtol=1e-3, atol=1e-4 * largest)
    for key, value in statistics.items():
        torch.testing.assert_close(divided_statistics[key], value)


def test_a_chunk_of_one_image_is_not_left_over() -> None:
    session = make(replace(CONFIG, neck="after"), micro_batch=8)
    sizes: list[int] = []
    session.model.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    assert np.isfinite(session.step(given(9), 0.0).wait()).all()
    assert sizes == [5, 4] * 2


@pytest.mark.parametrize("is_averaged", [True, False])
def test_a_run_goes_on_with_the_weights_that_were_trained(is_averaged: bool) -> None:
    before = make(replace(CONFIG, ema=0.9))
    for _ in range(2):
        before.step(given(), 0.0)
    after = make(replace(CONFIG, ema=0.9 if is_averaged else 0.0))
    after.model.load_state_dict(before.result.state_dict())  # as a checkpoint's
    after.restore(before.state(), "model.ep0")
    assert backbone_of(after).keys() == backbone_of(before).keys()
    for key, value in backbone_of(before).items():
        assert torch.equal(backbone_of(after)[key], value)
    assert after.average is None or after.average.steps == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_of_a_cpu_goes_on_with_the_kernels_of_a_gpu() -> None:
    before, after = make(CONFIG), make(CONFIG, device="cuda")
    before.step(given(), 0.0)
    after.restore(before.state(), "model.ep0")
    after.step(given(device="cuda"), 0.0)
    assert all(group["fused"] for group in after.optimizer.param_groups)
