"""The stage build_image_db.py."""

from pathlib import Path

import numpy as np
import pytest
import torch

import build_image_db
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.model import checkpoint
from retrieval.threads import computing_with
from tests.conftest import train_small


def test_encoding_follows_the_index_in_any_batch_size(pipeline: Path) -> None:
    path = pipeline / "para" / "model.ep0"
    expected = np.array(layout.DATABASE.load(pipeline))
    build_image_db.run(pipeline, path, output="other.npy", batch_size=5, precision="float32")
    found = np.load(pipeline / "other.npy")
    np.testing.assert_allclose(found, expected, atol=0.05)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    order = np.random.default_rng(0).permutation(len(expected))
    images = np.array(layout.IMAGE_MATRIX.load(pipeline))[order]
    layout.IMAGE_MATRIX.save(pipeline, images, "shuffled.npy")
    build_image_db.run(
        pipeline, path, "shuffled.npy", "other2.npy", batch_size=5, precision="float32"
    )
    np.testing.assert_allclose(np.load(pipeline / "other2.npy"), found[order], atol=1e-4)


def test_encoding_twice_gives_equal_bytes_and_a_record(pipeline: Path) -> None:
    before = layout.DATABASE.at(pipeline).read_bytes()
    build_image_db.run(pipeline, pipeline / "para" / "model.ep0")
    assert layout.DATABASE.at(pipeline).read_bytes() == before
    record = layout.DATABASE_RECORD.load(pipeline)
    assert record["images"] == "imageset.npy"
    assert len(record["checkpoint_sha256"]) == len(record["images_sha256"]) == 64


@pytest.mark.parametrize("adapt_bn", [False, True])
def test_threads_change_no_byte_or_are_recorded(
    adapt_bn: bool, pipeline: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def encoded(threads: int) -> tuple[bytes, int]:
        caplog.clear()
        path = pipeline / "para" / "model.ep0"
        with computing_with(threads):
            build_image_db.run(pipeline, path, precision="float32", adapt_bn=adapt_bn)
        record = layout.DATABASE_RECORD.load(pipeline)
        return layout.DATABASE.at(pipeline).read_bytes(), record["threads"]

    alone, three = encoded(1), encoded(3)
    if adapt_bn:
        assert (alone[1], three[1]) == (1, 3)
        assert "encoded with 1 threads, now with 3" in caplog.text
        assert "--threads=1 repeats it" in caplog.text
    else:
        assert alone == three
        assert "threads" not in caplog.text


def test_embeddings_that_are_not_finite_are_refused(pipeline: Path, tmp_path: Path) -> None:
    content = checkpoint.load(pipeline / "para" / "model.ep0")
    content["state_dict"]["projection.bias"][0] = torch.nan
    torch.save(content, tmp_path / "model.ep0")
    before = layout.DATABASE.at(pipeline).read_bytes()
    with pytest.raises(InputError, match="not finite"):
        build_image_db.run(pipeline, tmp_path / "model.ep0")
    assert layout.DATABASE.at(pipeline).read_bytes() == before


def test_a_contradicting_arch_is_refused(pipeline: Path) -> None:
    with pytest.raises(InputError, match="holds a timm/test_resnet, not --arch=resnet50"):
        build_image_db.run(pipeline, pipeline / "para" / "model.ep0", arch="resnet50")


def test_images_are_encoded_as_the_model_was_trained_for(pipeline: Path, tmp_path: Path) -> None:
    trained = train_small(
        pipeline, tmp_path, epoch=1, loss="ce", neck="none", encode_tta="flip", encode_scale=1.25
    )
    build_image_db.run(pipeline, trained, output="usual.npy")
    build_image_db.run(pipeline, trained, output="named.npy", tta="flip", scales=(1.25,))
    build_image_db.run(pipeline, trained, output="plain.npy", tta="none", scales=(1.0,))
    usual, named, plain = (
        layout.DATABASE.load(pipeline, f"{name}.npy") for name in ("usual", "named", "plain")
    )
    assert np.array_equal(usual, named)
    assert not np.allclose(usual, plain)
