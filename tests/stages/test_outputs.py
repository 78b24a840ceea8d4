"""No stage writes over another stage's file, over its own input, or over what is no file."""

from collections.abc import Callable
from pathlib import Path

import pytest

import build_image_db
from process_data import contact_sheet, data_info, export_onnx, image_matrix, report, transform
from retrieval.data.formats import InputError

CHECKPOINT = "para/model.ep0"


def encode(data_dir: Path, **options: str) -> Path:
    return build_image_db.run(data_dir, data_dir / CHECKPOINT, **options)


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        (encode, {"output": "imageset.npy"}),
        (encode, {"output": "./train.npy"}),
        (encode, {"output": "model_num.npy"}),  # its record would replace model_num.json
        (encode, {"output": "database.txt"}),
        (encode, {"input": "copy.npy", "output": "copy.npy"}),
        (image_matrix.run, {"mname": "car_front.csv"}),
        (image_matrix.run, {"mname": "database.npy"}),
        (transform.run, {"output_database": "imageset.npy"}),
        (contact_sheet.run, {"output": "database.npy"}),
        (report.run, {"output": "mAP.json"}),
        (data_info.run, {"image_root_path": "Image_data/data/image", "output": "car_front.csv"}),
    ],
)
def test_names_of_other_files_are_refused(
    pipeline: Path, stage: Callable[..., object], options: dict[str, str]
) -> None:
    (pipeline / "copy.npy").write_bytes((pipeline / "imageset.npy").read_bytes())
    before = {path: path.read_bytes() for path in pipeline.glob("*.*") if path.is_file()}
    with pytest.raises(InputError):
        stage(pipeline, **options)
    assert {path: path.read_bytes() for path in pipeline.glob("*.*") if path.is_file()} == before


def test_a_model_cannot_be_exported_over_a_checkpoint(pipeline: Path) -> None:
    with pytest.raises(InputError, match=r"must be named \*\.onnx"):
        export_onnx.run(pipeline, pipeline / CHECKPOINT, output=CHECKPOINT)


def test_names_of_one_s_own_are_taken(pipeline: Path) -> None:
    assert encode(pipeline, output="other.npy").exists()
    assert encode(pipeline, input="test_image.npy", output="tdatabase.npy").exists()
    assert contact_sheet.run(pipeline, output="sheet of mine.png").exists()
