"""Every photo below a folder is listed or counted."""

import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from process_data import data_info
from retrieval.data import image_formats, layout
from retrieval.data.formats import InputError
from retrieval.data.photo_folder import find_photos
from retrieval.photo_search.filters import Filters
from retrieval.photo_search.photo_files import photo_files
from retrieval.store.name_lookup import class_and_make, classes_of_models, filter_of
from retrieval.store.rows import Metadata

CITROEN = unicodedata.normalize("NFC", "Citroën")
DECOMPOSED = unicodedata.normalize("NFD", "Citroën")


def draw(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name, "PNG")


def test_links_are_followed_once(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    draw(root, "a/1.png", "a/deep/2.png")
    draw(elsewhere, "3.png", "more/4.png")
    (root / "b").symlink_to(elsewhere)
    (root / "a" / "5.png").symlink_to(elsewhere / "3.png")
    (elsewhere / "up").symlink_to(root)
    (root / "a" / "deep" / "round").symlink_to("..")
    (root / "0 alias").symlink_to("a")
    (root / "a" / "gone.png").symlink_to("nowhere.png")
    (root / "gone").symlink_to("nowhere")
    os.mkfifo(root / "a" / "pipe.png")
    found = find_photos(root)
    assert found.paths == ["a/1.png", "a/5.png", "a/deep/2.png", "b/3.png", "b/more/4.png"]
    assert found.left_out == {
        "links to nothing, or no files": 3,
        "links to folders that are listed already": 3,
    }


def test_what_is_left_out_is_counted_by_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "photos"
    draw(root, "a/1.png", "a/2.JPG", "b/3.jpeg", "loose.png", "a/.2.jpg", ".thumbnails/x/1.png")
    draw(root, "@eaDir/1.jpg", "a/@eaDir/2.jpg", "__MACOSX/a/._1.jpg", "b/x.NEF", "b/y.nef")
    draw(root, "Thumbs.db", "a/notes.txt", "a/README", "b/shot.HEIC", "b/shot.heif")
    monkeypatch.setattr(image_formats, "has_heif", lambda: False)
    for cached in (image_formats.photo_formats, image_formats.image_suffixes):
        cached.cache_clear()
    try:
        data_info.run(tmp_path)
    finally:
        monkeypatch.undo()
        for cached in (image_formats.photo_formats, image_formats.image_suffixes):
            cached.cache_clear()
    assert layout.IMAGE_INDEX.load(tmp_path)["Path"].tolist() == ["a/1.png", "a/2.JPG", "b/3.jpeg"]
    (said,) = (line for line in caplog.messages if "left out" in line)
    for words in (
        "5 hidden, or in folders of the system",
        "2 HEIC (to read these: pip install pillow-heif)",
        "1 beside the folders of classes",
        "4 not images by their names (.nef 2, ",
    ):
        assert words in said


def test_a_folder_without_photos_says_what_it_has(tmp_path: Path) -> None:
    draw(tmp_path / "photos", "a/1.raw", "a/2.raw", ".cache/3.png")
    with pytest.raises(InputError, match=r"left out: 1 hidden.*2 not images .*\(\.raw 2\)"):
        data_info.run(tmp_path)
    with pytest.raises(InputError, match=r"left out: 1 hidden.*2 not images .*\(\.raw 2\)"):
        photo_files([tmp_path / "photos"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty is empty; make one sub-folder"):
        data_info.run(tmp_path, "empty/")


@pytest.mark.skipif(not image_formats.has_heif(), reason="needs pillow-heif")
def test_heic_is_read_where_the_reader_is_installed(tmp_path: Path) -> None:
    image = Image.new("RGB", (64, 48), "red")
    (tmp_path / "photos" / "a").mkdir(parents=True)
    image.save(tmp_path / "photos" / "a" / "1.heic", "HEIF")
    assert find_photos(tmp_path / "photos").paths == ["a/1.heic"]


def test_a_folder_that_may_not_be_opened_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path, "a/1.png", "b/2.png")
    scandir = os.scandir

    def refused(path: Path) -> object:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)  # the superuser may open every folder
    found = find_photos(tmp_path)
    assert found.paths == ["a/1.png"]
    assert found.left_out == {"folders that this user may not open": 1}


def test_names_of_macos_and_of_linux_are_one_class(tmp_path: Path) -> None:
    draw(tmp_path, f"photos/{DECOMPOSED}/1.png", f"photos/{CITROEN}/2.png", "photos/VW/3.png")
    draw(tmp_path, f"queries/{DECOMPOSED}/4.png")
    data_info.run(tmp_path)
    table = layout.IMAGE_INDEX.load(tmp_path)
    assert set(table["ClassName"]) == {CITROEN, "VW"}
    assert all((tmp_path / "photos" / path).is_file() for path in table["Path"])
    # An index that was made when names were not composed yet.
    text = layout.IMAGE_INDEX.at(tmp_path).read_text().replace(f",{CITROEN}", f",{DECOMPOSED}")
    layout.IMAGE_INDEX.at(tmp_path).write_text(text)
    data_info.run(tmp_path, "queries/", "tindexinfo.csv", "indexinfo.csv", queries=True)
    assert layout.TEST_QUERIES.load(tmp_path).tolist() == [[0, 0]]
    assert len(layout.CLASS_NAMES.load_rows(tmp_path)) == 2


def test_a_csv_of_another_system_finds_the_files(tmp_path: Path) -> None:
    draw(tmp_path, f"photos/{DECOMPOSED}.png", "photos/ä.png")
    other = unicodedata.normalize("NFD", "ä")
    (tmp_path / "cars.csv").write_text(
        f"Path,ClassName\n{CITROEN}.png,{CITROEN}\n{other}.png,{DECOMPOSED}\n"
    )
    data_info.run(tmp_path, csv="cars.csv")
    table = layout.IMAGE_INDEX.load(tmp_path)
    assert set(table["ClassName"]) == {CITROEN}
    assert all((tmp_path / "photos" / path).is_file() for path in table["Path"])


@pytest.mark.parametrize("kept", [CITROEN, DECOMPOSED])
@pytest.mark.parametrize("typed", [CITROEN, DECOMPOSED, DECOMPOSED.upper()])
def test_a_name_is_found_as_it_is_printed(kept: str, typed: str) -> None:
    facets = [Metadata(kept, kept, 7)]
    for filters in (Filters(model=typed), Filters(make=typed), Filters(model=typed[:4])):
        assert filters.where(facets, "x.csv").matching(facets)
    assert filter_of(facets, "store", make=[typed], model=[typed]).models == {kept}
    assert class_and_make(kept, classes_of_models(facets))[0] == 7
