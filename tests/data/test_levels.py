"""Make, model and year from nested folders and csv files, on their way to answers."""

import logging
from pathlib import Path

import pytest
from PIL import Image

from process_data import data_info, image_matrix
from retrieval.data import image_index, layout, provenance
from retrieval.data.formats import InputError
from retrieval.data.levels import classes_of_levels, levels_of_folders
from retrieval.photo_search.filters import Filters
from retrieval.photo_search.metadata import load_image_table
from retrieval.report.confusion import load_makes
from retrieval.report.retrieval_results import load_class_names


def draw(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)


def listed(data_dir: Path, **options: object) -> list[tuple[str, ...]]:
    """Return ClassName, Make, Model and Year of each photo."""
    data_info.run(data_dir, **options)  # type: ignore[arg-type]
    table = layout.IMAGE_INDEX.load(data_dir)
    columns = ["ClassName", *(name for name in image_index.LEVELS if name in table.columns)]
    return [tuple(row) for row in table[columns].to_numpy().tolist()]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ("A4/1 X5/old/1", "A4, X5"),
        ("Audi/A4/1 BMW/BMW+X5/a/b/1", "Audi A4|Audi|A4|, BMW X5|BMW|BMW X5|"),
        (
            "Audi/A4/2011/1 Audi/A4/2009-2012/1",
            "Audi A4 2009-2012|Audi|A4|2009-2012, Audi A4 2011|Audi|A4|2011",
        ),
        ("Audi/A4/2011/1 Audi/A4/unknown/1", "Audi A4|Audi|A4|2011, Audi A4|Audi|A4|"),
        ("Audi/A4/2011/1 BMW/X5/1", "Audi A4|Audi|A4|2011, BMW X5|BMW|X5|"),
        ("Audi/A4/front/1 Audi/A4/2011/1", "Audi A4|Audi|A4|, Audi A4|Audi|A4|"),
        ("Audi+A4/2011/1 A6/2012/1", "A6 2012||A6|2012, Audi A4 2011||Audi A4|2011"),
        ("Peugeot/2008/1 Peugeot/308/1", "Peugeot 2008|Peugeot|2008|, Peugeot 308|Peugeot|308|"),
        ("Fiat/500/1 Abarth/500/1", "Abarth 500|Abarth|500|, Fiat 500|Fiat|500|"),
    ],
)
def test_nested_folders_are_levels(tmp_path: Path, paths: str, expected: str) -> None:
    draw(tmp_path / "photos", *(f"{path.replace('+', ' ')}.png" for path in paths.split()))
    assert ", ".join("|".join(row) for row in listed(tmp_path)) == expected


def test_the_level_that_is_asked_for_is_the_class(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    draw(
        tmp_path / "photos", "Audi/A4/2011/1.png", "Audi/A6/2012/1.png", "BMW/X5/1.png", "VW/1.png"
    )
    caplog.set_level(logging.INFO)
    assert listed(tmp_path) == [("Audi",), ("Audi",), ("BMW",), ("VW",)]
    assert "1 photos lie directly in them and 3 deeper, such as Audi/A4/2011/1.png" in caplog.text
    assert [row[0] for row in listed(tmp_path, class_level="make")] == ["Audi", "Audi", "BMW", "VW"]
    assert [row[0] for row in listed(tmp_path, class_level="model")] == [
        "Audi A4",
        "Audi A6",
        "BMW X5",
    ]
    assert "left out, without a model: 1, such as VW/1.png" in caplog.text
    found = listed(tmp_path, class_level="year")
    assert found == [("Audi A4 2011", "Audi", "A4", "2011"), ("Audi A6 2012", "Audi", "A6", "2012")]
    assert "left out, without a year: 2, such as BMW/X5/1.png" in caplog.text
    assert listed(tmp_path, class_level="folder") == [("Audi",), ("Audi",), ("BMW",), ("VW",)]
    with pytest.raises(InputError, match="no photo of .* has a year"):
        draw(tmp_path / "flat", "a/1.png")
        listed(tmp_path, image_root_path="flat/", class_level="year")


def test_queries_get_the_classes_that_the_database_has(tmp_path: Path) -> None:
    draw(tmp_path / "photos", "Audi/A4/2011/1.png", "BMW/X5/unknown/1.png")
    draw(tmp_path / "queries", "Audi/A4/2011/1.png")
    data_info.run(tmp_path)
    data_info.run(tmp_path, "queries/", "tindexinfo.csv", "indexinfo.csv", queries=True)
    assert layout.TEST_QUERIES.load(tmp_path).tolist() == [[0, 0]]
    draw(tmp_path / "flat", "Audi A4/1.png", "BMW X5/1.png")
    draw(tmp_path / "deep", "BMW X5/rear/1.png")
    data_info.run(tmp_path, "flat/")
    data_info.run(tmp_path, "deep/", "tindexinfo.csv", "indexinfo.csv", queries=True)
    assert layout.TEST_QUERIES.load(tmp_path).tolist() == [[0, 1]]


def test_a_csv_names_the_levels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    draw(tmp_path / "photos", "1.png", "a/2.png", "3.png", "4.png")
    lines = ["Path,Make,Model,Year,View Point,X1,Y1,X2,Y2", "a/2.png,Audi,A4,2011,4,0,0,3,3"]
    lines += ["1.png, Audi ,A4,,front side,,,,", "3.png,Fiat,500,1957,,,,,", "5.png,VW,Golf,,,,,,"]
    (tmp_path / "cars.csv").write_text("\n".join([*lines, "4.png,,,,,,,,"]) + "\n")
    expected = [
        ("Audi A4", "Audi", "A4", ""),
        ("Fiat 500", "Fiat", "500", "1957"),
        ("Audi A4", "Audi", "A4", "2011"),
    ]
    assert listed(tmp_path, csv="cars.csv") == expected
    assert "1, such as 5.png (line 5)" in caplog.text
    assert "without a class: 1, such as 4.png" in caplog.text
    table = layout.IMAGE_INDEX.load(tmp_path)
    assert table["View Point"].fillna(0).tolist() == [4, 0, 4] and table["X2"].tolist()[2] == 3
    assert [row[0] for row in listed(tmp_path, csv="cars.csv", class_level="year")] == [
        "Fiat 500 1957",
        "Audi A4 2011",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Path,ClassName,Make\n1.png,A4,Audi\n2.png,A4,BMW\n",
            r"class A4 has two makes, Audi \(line 2\) and BMW \(line 3\)",
        ),
        ("Path,Make,Model\n1.png,Alfa,Romeo GT\n2.png,Alfa Romeo,GT\n", "Romeo GT has two makes"),
        ("Path,ClassName\n1.png,a\n1.png,b\n", "line 3 .*: 1.png is named in line 2 too"),
        ("Path,Colour\n1.png,red\n", "it needs Path"),
        ("Path,ClassName\n7.png,a\n", "no file that .*cars.csv names is in"),
    ],
)
def test_contradictions_of_a_csv_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    draw(tmp_path / "photos", "1.png", "2.png")
    (tmp_path / "cars.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        data_info.run(tmp_path, csv="cars.csv")


def test_two_makes_in_folders_of_one_class_name_are_refused(tmp_path: Path) -> None:
    draw(tmp_path / "photos", "Alfa/Romeo Mito/1.png", "Alfa Romeo/Mito/1.png")
    with pytest.raises(InputError, match="class Alfa Romeo Mito has two makes"):
        data_info.run(tmp_path)


def test_makes_of_an_index(tmp_path: Path) -> None:
    draw(tmp_path / "photos", "Audi/A4/2011/1.png", "Fiat/500/2009/1.png")
    data_info.run(tmp_path)
    assert load_makes(tmp_path, load_class_names(tmp_path)) == {0: "Audi", 1: "Fiat"}


def test_a_database_of_nested_folders_has_metadata(tmp_path: Path) -> None:
    draw(tmp_path / "photos", "Audi/A4/2011/1.png", "Fiat/500/2009/1.png")
    data_info.run(tmp_path)
    image_matrix.run(tmp_path, "indexinfo.csv", "photos/", image_resolution=8)
    record = provenance.load_record(tmp_path, "imageset.npy", layout.IMAGE_MATRIX)
    assert record is not None
    known = load_image_table(tmp_path, record | {"preparation": record}, "database.npy")
    assert known.columns["make"] == ["Audi", "Fiat"] and known.columns["year"] == ["2011", "2009"]
    where = Filters(make="fiat", year="2009").where(known.facets, known.source)
    assert known.mask(where).tolist() == [False, True]  # type: ignore[union-attr]
    with pytest.raises(InputError, match="--make=VW: no image of indexinfo.csv has it; there are"):
        Filters(make="VW").where(known.facets, known.source)


def test_names_of_another_list_come_first() -> None:
    table = levels_of_folders([("Audi", "A4", "2011"), ("VW", "Golf", "2011")])
    assert classes_of_levels(table, "year", {"Audi A4"}) == ["Audi A4", "VW Golf 2011"]
