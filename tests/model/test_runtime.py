"""build_image_db.py --runtime: other programs compute the embeddings that torch does."""

import json
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

import build_image_db
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.model import bn_adaptation, database_encoder, runtime
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.model_config import ModelConfig
from tests.conftest import ARCH

OTHERS = [name for name in get_args(runtime.Runtime) if name not in ("auto", "torch")]


@pytest.fixture
def copied(pipeline: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pipeline, tmp_path / "data"))


@pytest.mark.parametrize("name", OTHERS)
def test_it_writes_the_embeddings_of_torch(pipeline: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip(name)
    data_dir = shutil.copytree(pipeline, tmp_path / "data")
    checkpoint = next(data_dir.glob("**/model.ep0"))
    options = {"batch_size": 7, "precision": "float32"}  # 7: a last batch of another size
    build_image_db.run(data_dir, checkpoint, output="one.npy", runtime=name, **options)
    found = layout.DATABASE.load(data_dir, "one.npy")
    build_image_db.run(data_dir, checkpoint, output="torch.npy", **options)
    expected = layout.DATABASE.load(data_dir, "torch.npy")
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert json.loads((data_dir / "one.json").read_text())["runtime"] == name


@pytest.mark.parametrize(
    "options", [{"scales": (1.0, 0.5)}, {"compile": True}, {"precision": "bfloat16"}]
)
def test_what_it_cannot_do_is_refused(pipeline: Path, options: dict) -> None:
    checkpoint = next(pipeline.glob("**/model.ep0"))
    with pytest.raises(InputError, match="--runtime=onnxruntime"):
        build_image_db.run(pipeline, checkpoint, output="x.npy", runtime="onnxruntime", **options)
    assert not (pipeline / "x.npy").exists()


def test_images_of_another_side_are_refused_before_the_batch_norms_adapt(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bn_adaptation, "adapt_batch_norm", lambda *_: pytest.fail("adapted"))
    images = np.array(layout.IMAGE_MATRIX.load(pipeline))[:, :, 1:, 1:]
    layout.IMAGE_MATRIX.save(pipeline, images, "small.npy")
    side, checkpoint = images.shape[-1], next(pipeline.glob("**/model.ep0"))
    with pytest.raises(InputError, match=f"takes images of {side + 1} px, not {side}"):
        build_image_db.run(pipeline, checkpoint, "small.npy", runtime="openvino", adapt_bn=True)


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_encoder, "MANY_IMAGES", 1)


def encoded(data_dir: Path, output: str, **options: object) -> tuple[bytes, str]:
    """Return the bytes of the embeddings and the runtime in their record."""
    checkpoint = next(data_dir.glob("**/model.ep0"))
    build_image_db.run(data_dir, checkpoint, output=f"{output}.npy", **options)
    record = json.loads((data_dir / f"{output}.json").read_text())
    return (data_dir / f"{output}.npy").read_bytes(), record["runtime"]


@pytest.mark.usefixtures("few_are_many")
def test_auto_takes_the_fastest_and_names_it(copied: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    chosen, name = encoded(copied, "auto")
    assert name == "openvino"
    assert (chosen, name) == encoded(copied, "named", runtime=name)
    for options in ({"scales": (1.0, 0.5)}, {"shards": 2}):
        assert encoded(copied, "other", **options)[1] == "torch"


def test_auto_takes_torch_for_few_images(copied: Path) -> None:
    assert encoded(copied, "auto") == encoded(copied, "named", runtime="torch")


@pytest.mark.usefixtures("few_are_many")
def test_auto_takes_torch_if_nothing_else_is_installed_or_agrees(
    copied: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with monkeypatch.context() as without:
        without.setattr(runtime, "find_spec", lambda _: None)
        assert encoded(copied, "auto")[1] == "torch"
        assert "pip install openvino onnxscript" in caplog.text
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    monkeypatch.setitem(runtime.START, "openvino", lambda *_: lambda images: np.ones((2, 16)))
    monkeypatch.setitem(runtime.START, "onnxruntime", lambda *_: lambda images: np.ones((2, 16)))
    assert encoded(copied, "auto")[1] == "torch"
    assert "openvino computes other embeddings than torch" in caplog.text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_is_refused(pipeline: Path) -> None:
    checkpoint = next(pipeline.glob("**/model.ep0"))
    with pytest.raises(InputError, match="computes on the CPU"):
        build_image_db.run(pipeline, checkpoint, runtime="openvino", device="cuda")


def test_other_embeddings_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    model = EmbeddingModel(ModelConfig(ARCH, 16, 32)).eval()
    right = lambda images: model(torch.from_numpy(images)).detach().numpy()  # noqa: E731
    for factor in (-1, 1.1):  # another direction, another length
        wrong = lambda images, factor=factor: factor * right(images)  # noqa: E731
        monkeypatch.setitem(runtime.START, "openvino", lambda *_, wrong=wrong: wrong)
        with pytest.raises(InputError, match="openvino computes other embeddings"):
            runtime.RuntimeModel(model, "openvino", torch.float32)
