"""The exported model computes what torch computes, in any batch size."""

from pathlib import Path

import numpy as np
import pytest
import torch

from process_data import export_onnx
from retrieval.data import layout, provenance
from retrieval.data.formats import InputError
from retrieval.model import checkpoint, onnx
from retrieval.model.tta import Views

onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
pytest.importorskip("onnxscript", reason="needs onnxscript")


def test_the_exported_model_embeds_as_torch_does(
    pipeline: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    save_path = pipeline / "para" / "model.ep0"
    views = Views("flip", (1.25,))
    path = export_onnx.run(pipeline, save_path, tta="flip", scales=(1.25,))
    assert "largest difference" in caplog.text
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    origin = session.get_modelmeta().custom_metadata_map
    assert origin["checkpoint_sha256"] == provenance.sha256(save_path)
    model = checkpoint.build_model(checkpoint.load(save_path), save_path).eval()
    images = np.array(layout.IMAGE_MATRIX.load(pipeline)[:5])
    with torch.inference_mode():
        expected = views.embed(model, torch.from_numpy(images)).numpy()
    for n in (1, 5):
        (found,) = session.run(["embeddings"], {"images": images[:n]})
        np.testing.assert_allclose(found, expected[:n], atol=1e-5)
    with torch.no_grad():
        model.projection.bias += 1  # another model than the one in the file
    assert onnx.largest_difference(model, path, 7, views) > 1e-3

    before = path.read_bytes()
    monkeypatch.setattr(onnx, "export", lambda _, part, *__, **___: part.write_bytes(before))
    with pytest.raises(InputError, match="differs from torch by .* nothing was written"):
        export_onnx.run(pipeline, save_path, tta="flip", scales=(1.25,), tolerance=0.0)
    assert path.read_bytes() == before


def test_a_missing_package_is_said(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(onnx, "import_module", absent)
    with pytest.raises(InputError, match="pip install onnxscript onnxruntime"):
        export_onnx.run(pipeline, pipeline / "para" / "model.ep0")
    assert not layout.ONNX_MODEL.at(pipeline).exists()
