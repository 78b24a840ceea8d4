"""The stage train.py and its checkpoints, and encoding with them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import build_image_db
from process_data import image_matrix
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.model import checkpoint
from tests.conftest import NO_GPU, train_small


def parts_of(path: Path) -> dict[str, Any]:
    content = checkpoint.load(path)
    return {key: content[key] for key in ("state_dict", "optimizer", "loss", "metrics")}


def assert_equal(first: Any, second: Any) -> None:
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, list):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_equal(one, other)
    else:
        assert first == second


def test_a_continued_run_equals_one_that_never_stopped(pipeline: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_small(pipeline, whole, epoch=2)
    train_small(pipeline, parts, epoch=1)
    train_small(pipeline, parts, epoch=2, start_epoch=0)
    assert sorted(p.name for p in parts.iterdir()) == [
        "log.csv",
        "model.ep0",
        "model.ep1",
    ]
    assert (parts / "log.csv").read_bytes() == (whole / "log.csv").read_bytes()
    for name in ("model.ep0", "model.ep1"):
        assert_equal(parts_of(parts / name), parts_of(whole / name))


def test_equal_seeds_give_equal_bytes(pipeline: Path, tmp_path: Path) -> None:
    contents = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        path = train_small(pipeline, tmp_path / name, epoch=1, seed=seed)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_training_lowers_the_loss_and_validates(pipeline: Path, tmp_path: Path) -> None:
    path = train_small(pipeline, tmp_path, epoch=4, batch_size=16, augmentation="none")
    losses = [checkpoint.load(tmp_path / f"model.ep{n}")["metrics"]["loss"] for n in range(4)]
    assert losses[-1] < 0.8 * losses[0]
    metrics = checkpoint.load(path)["metrics"]
    similarities = {"positive", "negative"}
    assert set(metrics) == {"loss", "auc", "eer", "cmc@1", "map@R"} | similarities
    assert metrics["positive"] > metrics["negative"] + 0.1
    assert all(0 <= metrics[name] <= 1 for name in ("auc", "eer", "cmc@1", "map@R"))


@pytest.mark.parametrize("negatives", ["tuple", "batch"])
def test_a_loss_that_is_not_finite_stops_with_advice(
    pipeline: Path, tmp_path: Path, negatives: str
) -> None:
    with pytest.raises(InputError, match="(loss|gradients|weights) .* try a smaller --lr"):
        train_small(pipeline, tmp_path, epoch=3, lr=1e30, batch_size=4, negatives=negatives)


def test_even_epochs_take_train_and_odd_ones_train2(pipeline: Path, tmp_path: Path) -> None:
    reverse = np.array(layout.TRAIN_REVERSED.load(pipeline))
    layout.TRAIN_REVERSED.save(pipeline, reverse[:1])  # a very short odd epoch
    train_small(pipeline, tmp_path, epoch=2, batch_size=8)
    steps = [
        checkpoint.load(tmp_path / f"model.ep{n}")["optimizer"]["state"][0]["step"] for n in (0, 1)
    ]
    n_pair = len(layout.TRAIN.load(pipeline))
    assert steps[0] == -(-n_pair // 8)
    assert steps[1] == steps[0] + 1


def test_scale_and_dim_are_kept_in_the_checkpoint(pipeline: Path, tmp_path: Path) -> None:
    options = {"arch": "resnet18", "scale": 0.5, "dim": None}
    # Of 16 px, the last feature map has one pixel, and bfloat16 gradients are not repeatable there.
    path = train_small(pipeline, tmp_path, epoch=1, precision="float32", **options)
    model = checkpoint.load(path)["model"]
    assert (model["side"], model["dim"]) == (16, 512)
    build_image_db.run(pipeline, path)
    assert layout.DATABASE.load(pipeline).shape[1] == 512


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 0}, "keeps the .* pooled features .* leave --dim and --neck out"),
        ({"epoch": 1, "start_epoch": 0}, "there is nothing left to train"),
        ({"epoch": 5, "start_epoch": 3}, "model.ep3 is missing"),
        (
            {"epoch": 2, "start_epoch": 0, "arch": "resnet34"},
            "holds a timm/test_resnet, not --arch",
        ),
        ({"temperature": 0.0}, "--temperature must be above 0"),
        ({"batch_size": 0}, "--batch_size must be at least 1"),
        ({"device": "cuda:99"}, "--device=cuda:99"),
    ],
)
def test_mistakes_are_said(pipeline: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train_small(pipeline, **options)


@pytest.mark.gpu
@NO_GPU
@pytest.mark.parametrize("is_compiled", [False, True])
def test_training_and_encoding_on_a_gpu(pipeline: Path, tmp_path: Path, is_compiled: bool) -> None:
    # At 32 px the last feature map has one position. Torch 2.11 compiles its convolutions for other
    # strides than cuDNN returns there.
    image_matrix.run(pipeline, image_resolution=64)
    options = {"epoch": 3, "batch_size": 16, "augmentation": "light", "compile": is_compiled}
    path = train_small(pipeline, tmp_path, device="cuda", **options)
    losses = [checkpoint.load(tmp_path / f"model.ep{n}")["metrics"]["loss"] for n in range(3)]
    assert losses[-1] < losses[0]
    build_image_db.run(pipeline, path, output="cpu.npy", device="cpu", precision="float32")
    build_image_db.run(pipeline, path, output="gpu.npy", device="cuda", compile=is_compiled)
    cpu, gpu = (np.load(pipeline / name) for name in ("cpu.npy", "gpu.npy"))
    np.testing.assert_allclose(gpu, cpu, atol=0.05)


def test_without_a_compiler_there_is_advice(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InputError, match="--compile needs a C\\+\\+ compiler"):
        train_small(pipeline, epoch=1, compile=True)
