"""The stages search and calibrate, from the shell."""

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import build_image_db
from process_data import calibrate, report, search
from retrieval.data import layout
from retrieval.data.decoded_photos import PhotoOptions
from retrieval.data.formats import InputError
from retrieval.evaluation.calibration import load_calibration
from retrieval.photo_search import answer_sheet, car_detector
from retrieval.photo_search.car_detector import Detection
from tests.calibrations import save_some
from tests.pages import read_page
from tests.stages.test_stages import ROOT

TESTS = Path("Image_data/sv_data/image")


@pytest.fixture
def photos(pipeline: Path) -> Path:
    """A data directory, with two photos in a folder."""
    (pipeline / "shots").mkdir()
    for path in layout.TEST_INDEX.load(pipeline)["Path"][[0, 4]]:
        content = (pipeline / TESTS / path).read_bytes()
        (pipeline / "shots" / Path(path).name).write_bytes(content)
    return pipeline


def run_main(data_dir: Path, line: str) -> int:
    model = data_dir / "para" / "model.ep0"
    return search.main([f"--dpath={data_dir}", f"--save_path={model}", *shlex.split(line)])


def test_it_prints_answers_and_the_most_likely_model(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)  # relative to the working directory, not to --dpath
    assert run_main(photos, "--image=shots --k=3") == 0
    lines = capsys.readouterr().out.splitlines()
    heads = [i for i, line in enumerate(lines) if line.startswith("shots/")]
    assert len(heads) == 2
    table = layout.CAR_FRONT.load(photos)
    names = layout.CLASS_NAMES.load(photos).set_index("Class")["ClassName"]
    for head in heads:
        assert lines[head].endswith("48 images searched")
        assert lines[head + 1].split() == [
            *("rank", "similarity", "model", "make", "year", "view", "path")
        ]
        for rank in (1, 2, 3):
            line = lines[head + 1 + rank]
            (row,) = (row for row in table.itertuples() if line.endswith(row.Path))
            assert line.startswith(f"{rank} ") and names[row.Class] in line
        assert lines[head + 5].startswith("most likely: ")
    with Image.open(layout.SEARCH_SHEET.at(photos)) as sheet:
        assert sheet.size == (8 + 4 * 144 + 8, 8 + 2 * 176)


def test_json_has_the_same_answers_as_python(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = sorted((photos / "shots").iterdir())[0]
    found = search.run(photos, photos / "para" / "model.ep0", [photo], k=4, as_json=True)
    first = capsys.readouterr().out
    (printed,) = json.loads(first)
    assert printed == json.loads(json.dumps(found[0].as_json()))
    assert [answer["rank"] for answer in printed["answers"]] == [1, 2, 3, 4]
    assert printed["in_database"] is None
    assert printed["most_likely"]["name"] == found[0].prediction.model.name  # type: ignore[union-attr]
    assert run_main(photos, f"--image={photo} --k=4 --json") == 0
    assert capsys.readouterr().out == first


def test_photos_without_classes_name_no_model(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = layout.CAR_FRONT.load(photos)
    layout.CAR_FRONT.save(photos, table.drop(columns="CarMake").assign(Class=-1, CarMake=0))
    assert run_main(photos, f"--image={photos / 'shots'} --k=2") == 0
    out = capsys.readouterr().out
    assert out.count("no model is named: these images have no classes") == 2
    assert "class -1" not in out and "vote" not in out


def test_a_broken_photo_stops_no_other(
    photos: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "shots" / "0 broken.jpg").write_text("no photo")
    (photos / "shots" / "tiny.png").write_bytes(b"")
    assert run_main(photos, f"--image={photos / 'shots'} --k=2 --json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [("error" in one, "answers" in one) for one in told] == [
        *[(True, False), (False, True), (False, True), (True, False)]
    ]
    assert "it is not one of JPEG" in told[0]["error"] and "empty" in told[3]["error"]
    assert "2 of 4 photos cannot be searched with" in caplog.text
    assert run_main(photos, f"--image={photos / 'shots'} --k=2") == 0
    assert capsys.readouterr().out.count("most likely") == 2
    for line in ("{0}/0*.jpg", "{0}/0*.jpg {0}/tiny.png"):
        names = [str(path) for part in line.split() for path in photos.glob(part.format("shots"))]
        quoted = " ".join(f"'{name}'" for name in names)
        assert run_main(photos, f"--json --image {quoted}") == 1
        output = capsys.readouterr()
        assert [one["photo"] for one in json.loads(output.out)] == names
        assert output.err.count("error: ") == 1


def test_json_is_whole_on_any_terminal(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = photos / "é漢.jpg"
    shutil.copy(sorted((photos / "shots").iterdir())[0], photo)
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert run_main(photos, f"--image={photo} --k=1 --json") == 0
    (printed,) = json.loads(out.buffer.getvalue())  # type: ignore[attr-defined]
    assert printed["photo"] == str(photo)


def test_filters_and_threshold_reach_the_search(photos: Path) -> None:
    model, photo = photos / "para" / "model.ep0", [photos / "shots"]
    year = layout.CAR_FRONT.load(photos)["Year"].iloc[0]
    for one in search.run(photos, model, photo, year=year, viewpoint="front-side"):
        assert {(a.metadata.year, a.metadata.viewpoint) for a in one.answers} == {
            (year, "front side")
        }
    (_, all_of) = search.run(photos, model, photo, k=6)
    least = all_of.answers[2].similarity
    (_, near) = search.run(photos, model, photo, k=6, at_least=least)
    assert near.answers == all_of.answers[:3] and near.n_hidden == 3
    (_, none) = search.run(photos, model, photo, at_least=1.5)
    assert none.answers == () and none.n_hidden == 20


def test_what_is_probably_missing_is_said_and_nothing_is_hidden(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_some(photos, known=-9.0, reject_below=0.5)
    assert run_main(photos, "--image=" + str(photos / "shots") + " --k=3") == 0
    out = capsys.readouterr().out
    assert out.count("probably not in the database, over 99 %") == 2 * 2  # model and make
    assert out.count("nearest model: ") == 2 and "most likely" not in out
    assert len([line for line in out.splitlines() if line[:2] in ("1 ", "2 ", "3 ")]) == 6


def test_the_car_is_searched_for(
    photos: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    box = (4.0, 3.0, 30.0, 25.0)
    model, photo = photos / "para" / "model.ep0", sorted((photos / "shots").iterdir())
    (by_hand,) = search.run(photos, model, photo[:1], box="4,3,30,25", k=3)
    monkeypatch.setattr(
        car_detector, "coco_detector", lambda: lambda image: [Detection("car", 0.9, box)]
    )
    (found,) = search.run(photos, model, photo[:1], box="auto", k=3)
    assert found.query.box == by_hand.query.box == box and found.answers == by_hand.answers
    (whole,) = search.run(photos, model, photo[:1], k=3)
    assert whole.answers[0].similarity != found.answers[0].similarity
    monkeypatch.setattr(car_detector, "coco_detector", lambda: lambda image: [])
    caplog.set_level("INFO")
    (found,) = search.run(photos, model, photo[:1], box="auto", k=3)
    assert found.query.box is None and found.answers == whole.answers
    assert f"{photo[0]}: no car was found, the whole photo is taken" in caplog.messages
    monkeypatch.setattr(car_detector, "coco_detector", lambda: None)
    (found,) = search.run(photos, model, photo[:1], box="auto", k=3)
    assert found.answers == whole.answers


def test_explained_answers_have_rows_of_their_own(photos: Path) -> None:
    model, photo = photos / "para" / "model.ep0", sorted((photos / "shots").iterdir())
    search.run(photos, model, photo[:1], k=12, output="plain.png")
    search.run(photos, model, photo[:1], k=12, explain=True, output="why.png")
    with Image.open(photos / "plain.png") as plain, Image.open(photos / "why.png") as why:
        width = 8 + (1 + answer_sheet.MAX_ANSWERS) * 144 + 8
        assert plain.size == (width, 8 + 176) and why.size == (width, 8 + 3 * 176)
        rows = [np.asarray(why)[8 + 176 * i : 144 + 176 * i, 168:] for i in range(3)]
    np.testing.assert_array_equal(
        np.asarray(Image.open(photos / "plain.png"))[8:144, 168:], rows[0]
    )
    assert (rows[0] != rows[1]).any() and (rows[1] != rows[2]).any()


def test_a_database_without_an_image_matrix_is_searched_alike(photos: Path) -> None:
    model, photo = photos / "para" / "model.ep0", [photos / "shots"]
    before = search.run(photos, model, photo, k=4)
    first = layout.SEARCH_SHEET.at(photos).read_bytes()
    options = PhotoOptions(image_resolution=search_side(photos))
    build_image_db.run(photos, model, image_info="car_front.csv", photos=options)
    layout.IMAGE_MATRIX.at(photos).unlink()
    after = search.run(photos, model, photo, k=4)
    assert [one.answers for one in after] == [one.answers for one in before]
    assert layout.SEARCH_SHEET.at(photos).read_bytes() == first


def search_side(data_dir: Path) -> int:
    return int(layout.IMAGE_MATRIX.load(data_dir).shape[-1])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--image={d}/none.jpg", "none.jpg is missing; name a photo"),
        ("--image={d}/car_front.csv", "car_front.csv cannot be read as an image"),
        ("--image={d}/evaluations", "evaluations has no images"),
        ("--image={d}/shots --box=500,0,600,9", "is not within"),
        ("--image={d}/shots --box=1,2,3", "give x1,y1,x2,y2"),
        ("--image={d}/shots --make=nobody", "--make=nobody: no image of car_front.csv has it"),
        ("--image={d}/shots --k=0", "--k must be at least 1"),
        ("--image={d}/shots --at_least=nan", "--at_least must be finite"),
        ("--image={d}/shots --output=database.npy", "is the name of another file"),
        ("--image={d}/shots --save_path={d}/other", "other is missing"),
        ("--image={d}/shots --save_path={d}/mAP.json", "is not the model that encoded"),
        ("--image={d}/shots --database=x.npy", "x.npy is missing; make it with"),
    ],
)
def test_wrong_inputs_are_one_line(
    photos: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    before = sorted(path.name for path in photos.iterdir())
    assert run_main(photos, line.format(d=photos)) == 1
    (error,) = [e for e in capsys.readouterr().err.splitlines() if e.startswith("error: ")]
    assert message in error
    assert sorted(path.name for path in photos.iterdir()) == before


def test_wrong_inputs_do_not_wait_for_torch(photos: Path) -> None:
    program = (
        "import sys; from process_data import search; status = search.main(sys.argv[1:]);"
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    common = [f"--dpath={photos}", f"--image={photos / 'shots'}"]
    command = [sys.executable, "-c", program, *common, f"--save_path={photos / 'mAP.json'}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1, result.stderr
    assert result.stderr.startswith("error: ")


def test_calibrate_prints_and_keeps_what_it_measured(
    pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = calibrate.run(pipeline, device="cpu")
    text = capsys.readouterr().out
    first = path.read_bytes()
    assert calibrate.run(pipeline, device="cpu").read_bytes() == first
    found = load_calibration(pipeline, "database.npy")
    assert found is not None
    calibration, measured = found
    assert set(calibration.levels) == {"model", "year"}  # there are two makes
    assert (measured["n_query"], measured["n_class"]) == (12, 6)
    for of_level in measured["levels"].values():
        assert f"{of_level['brier']:.4f}" in text and f"{of_level['auc_known']:.3f}" in text
        assert f"{100 * of_level['false_accept']:.1f} %" in text
    with pytest.raises(InputError, match="--false_reject must be above 0 and below 1; got 1"):
        calibrate.run(pipeline, false_reject=1)


def test_the_report_has_the_calibration_while_it_fits(pipeline: Path) -> None:
    assert "Brier score" not in read_page(report.run(pipeline, rows=1, k=2)).text
    calibrate.run(pipeline)
    found = load_calibration(pipeline, "database.npy")
    assert found is not None
    page = read_page(report.run(pipeline, rows=1, k=2))
    assert "Brier score" in page.text and "Risk and coverage" in page.text
    for of_level in found[1]["levels"].values():
        assert f"{of_level['brier']:.3f}" in page.text
    record = layout.DATABASE_RECORD.load(pipeline)
    layout.DATABASE_RECORD.save(pipeline, record | {"epoch": 5})
    assert "Brier score" not in read_page(report.run(pipeline, rows=1, k=2)).text


def test_the_python_of_the_document_runs(photos: Path) -> None:
    text = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    model, photo = photos / "para" / "model.ep0", sorted((photos / "shots").iterdir())[0]
    year = layout.CAR_FRONT.load(photos)["Year"].iloc[0]
    for name, value in (
        ('"demo/para/model.ep4"', str(model)),
        ('"demo"', str(photos)),
        ('"photo.jpg"', str(photo)),
        ('"2010"', year),
        ("(30, 81, 426, 262)", (2, 2, 40, 30)),
    ):
        assert name in block
        block = block.replace(name, repr(value))
    names: dict[str, Any] = {}
    exec(block, names)
    assert {answer.metadata.year for answer in names["found"].answers} == {year}
