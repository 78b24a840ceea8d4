"""build_image_db.py --runtime: other programs compute the embeddings that torch does."""

import hashlib
import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

import build_image_db
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.model import onnx, runtime
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.model_config import ModelConfig
from tests.conftest import ARCH

OTHERS = [name for name in get_args(runtime.Runtime) if name not in ("auto", "torch")]


_EXPORTS: dict[tuple[str, ...], bytes] = {}


@pytest.fixture(autouse=True)
def _equal_models_are_exported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An export takes seconds: that of the same weights, views and side is there already."""
    whole = onnx.export

    def export(model: EmbeddingModel, path: Path, *views_and_side: object) -> Path:
        weights = [value.numpy().tobytes() for value in model.state_dict().values()]
        key = hashlib.sha256(b"".join(weights)).hexdigest(), *map(repr, views_and_side)
        if key not in _EXPORTS:
            _EXPORTS[key] = whole(model, path, *views_and_side).read_bytes()  # type: ignore[arg-type]
        path.write_bytes(_EXPORTS[key])
        return path

    monkeypatch.setattr(onnx, "export", export)


@pytest.mark.parametrize("name", OTHERS)
def test_it_writes_the_embeddings_of_torch(pipeline: Path, name: str) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip(name)
    checkpoint = next(pipeline.glob("**/model.ep0"))
    # Images of another side than the model's are resized too: 41 px to 40 and to 24.
    images = np.pad(layout.IMAGE_MATRIX.load(pipeline), [(0, 0), (0, 0), (4, 5), (3, 6)])
    layout.IMAGE_MATRIX.save(pipeline, images, "large.npy")
    # 7: a last batch of another size
    options = {"batch_size": 7, "precision": "float32", "tta": "flip", "scales": (1.25, 0.75)}
    for output, runtime_name in (("one.npy", name), ("torch.npy", "torch")):
        build_image_db.run(
            pipeline, checkpoint, "large.npy", output, runtime=runtime_name, **options
        )
    found, expected = (layout.DATABASE.load(pipeline, x) for x in ("one.npy", "torch.npy"))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    record, of_torch = (
        layout.DATABASE_RECORD.load(pipeline, f"{x}.json") for x in ("one", "torch")
    )
    assert record == of_torch | {"runtime": name, "content": record["content"]}


@pytest.mark.parametrize("options", [{"compile": True}, {"precision": "bfloat16"}])
def test_what_it_cannot_do_is_refused(pipeline: Path, options: dict) -> None:
    checkpoint = next(pipeline.glob("**/model.ep0"))
    with pytest.raises(InputError, match="--runtime=onnxruntime"):
        build_image_db.run(pipeline, checkpoint, output="x.npy", runtime="onnxruntime", **options)
    assert not (pipeline / "x.npy").exists()


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "MANY_IMAGES", 1)


def encoded(data_dir: Path, output: str, **options: object) -> tuple[bytes, str]:
    """Return the bytes of the embeddings and the runtime in their record."""
    checkpoint = next(data_dir.glob("**/model.ep0"))
    build_image_db.run(data_dir, checkpoint, output=f"{output}.npy", **options)
    record = json.loads((data_dir / f"{output}.json").read_text())
    return (data_dir / f"{output}.npy").read_bytes(), record["runtime"]


@pytest.mark.usefixtures("few_are_many")
def test_auto_takes_the_fastest_and_names_it(pipeline: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    chosen, name = encoded(pipeline, "auto")
    assert name == "openvino"
    assert (chosen, name) == encoded(pipeline, "named", runtime=name)
    assert encoded(pipeline, "other", shards=2)[1] == "torch"


def test_auto_takes_torch_for_few_images(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n_image = len(layout.IMAGE_MATRIX.load(pipeline))
    monkeypatch.setattr(runtime, "MANY_IMAGES", 3 * n_image)
    assert encoded(pipeline, "auto") == encoded(pipeline, "named", runtime="torch")
    # Views count: two mirrored ones at 1.25 take the time of 3.125 images.
    monkeypatch.setattr(runtime, "fastest", lambda model, *_: ("openvino", model))
    assert encoded(pipeline, "views", tta="flip", scales=(1.25,))[1] == "openvino"


def cannot_start(*_: object) -> None:
    raise RuntimeError("no such operator\nin node 7")


@pytest.mark.usefixtures("few_are_many")
def test_auto_takes_torch_if_nothing_else_is_installed_or_agrees(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with monkeypatch.context() as without:
        without.setattr(runtime, "find_spec", lambda _: None)
        assert encoded(pipeline, "auto")[1] == "torch"
        assert "pip install openvino onnxscript" in caplog.text
    monkeypatch.setattr(runtime, "find_spec", lambda _: True)
    monkeypatch.setattr(onnx, "export", lambda *_: None)
    monkeypatch.setitem(runtime.START, "openvino", lambda *_: lambda images: np.ones((2, 16)))
    monkeypatch.setitem(runtime.START, "onnxruntime", cannot_start)
    assert encoded(pipeline, "auto", precision="float32")[1] == "torch"
    assert "openvino computes other embeddings than torch" in caplog.text
    assert "onnxruntime cannot run timm/test_resnet (no such operator)" in caplog.text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_is_refused(pipeline: Path) -> None:
    checkpoint = next(pipeline.glob("**/model.ep0"))
    with pytest.raises(InputError, match="computes on the CPU"):
        build_image_db.run(pipeline, checkpoint, runtime="openvino", device="cuda")


def test_other_embeddings_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "export", lambda *_: None)
    model = EmbeddingModel(ModelConfig(ARCH, 16, 32)).eval()
    right = lambda images: model(torch.from_numpy(images)).detach().numpy()  # noqa: E731
    for factor in (-1, 1.1):  # another direction, another length
        wrong = lambda images, factor=factor: factor * right(images)  # noqa: E731
        monkeypatch.setitem(runtime.START, "openvino", lambda *_, wrong=wrong: wrong)
        with pytest.raises(InputError, match="openvino computes other embeddings"):
            runtime.RuntimeModel(model, "openvino", torch.float32)
