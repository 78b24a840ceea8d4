"""publish, add and remove: images into and out of a store."""

import importlib
import io
import logging
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from compcars import sample
from process_data import add, publish, remove
from retrieval.data import layout, provenance
from retrieval.data.decode import load_square
from retrieval.data.formats import InputError
from retrieval.photo_search.preprocessing import Preprocessing
from retrieval.photo_search.query_encoder import QueryEncoder
from retrieval.search.exact import nearest_neighbors
from retrieval.store.backends import open_store
from retrieval.store.filters import Filter
from retrieval.store.name_lookup import class_of_name
from retrieval.store.rows import FIRST_PHOTO_ID, photo_id
from tests.conftest import train_small
from tests.store.drawn_database import PHOTOS, write_database


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    write_database(tmp_path)
    return tmp_path


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]


def test_publish_puts_every_image_into_the_store(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert publish.run(data_dir) == 24
    assert len(messages(caplog)) == 1 and "24 images published" in messages(caplog)[0]
    gallery = layout.DATABASE.load(data_dir)
    with open_store(data_dir) as store:
        assert store.collection.record == provenance.load_record(data_dir, "database.npy")
        answer = store.search(gallery[:5], 24)
        np.testing.assert_array_equal(answer.ids, nearest_neighbors(gallery[:5], gallery, 24)[0])
        (row, other) = store.get([6, 4])
    assert (row.label, row.make, row.model) == (3, "Alfa Romeo", "Alfa Romeo Giulia")
    assert (row.year, row.viewpoint, row.path) == ("2008", "front side", "6.png")
    assert row.box == (2, 3, 30, 20) and other.box is None
    assert row.sha256 == provenance.sha256(data_dir / PHOTOS / "6.png")
    picture = data_dir / "thumbnail.jpg"
    picture.write_bytes(row.thumbnail)
    expected = layout.IMAGE_MATRIX.load(data_dir)[6].transpose(1, 2, 0)
    # Noise is the hardest picture for a JPEG.
    assert np.abs(load_square(picture, 32) - expected.astype(float)).mean() < 40


def test_addresses_that_are_none_are_one_line(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data_dir / "file").touch()
    before = sorted(data_dir.rglob("*"))
    wrong = ["http://[::1", "http://", "://", "http://host:99999", "http://host:x", "ftp://host:1"]
    for store in [*wrong, "file", "file/store", "file/x.db", ".", "photos", "\udcff"]:
        assert publish.main([f"--dpath={data_dir}", f"--store={store}"]) == 1
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1 and said[0].startswith("error: ")
    assert sorted(data_dir.rglob("*")) == before


def test_publishing_to_a_file_logs_no_errors(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("milvus_lite")
    assert publish.run(data_dir, store="store.db") == 24
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_publish_again_adds_what_is_missing(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("retrieval.ingest.publishing.BATCH", 5)
    publish.run(data_dir)
    with open_store(data_dir) as store:
        before = store.get(range(24))
    assert publish.run(data_dir) == 0
    remove.run(data_dir, ids=[3, 4, 23])
    caplog.set_level(logging.INFO)
    assert publish.run(data_dir) == 3
    assert "3 images published" in messages(caplog)[-1]
    assert "21 were there; it holds 24" in messages(caplog)[-1]
    with open_store(data_dir) as store:
        after = store.get(range(24))
    kept = [n for n in range(24) if n not in (3, 4, 23)]
    assert [after[n].added_ns for n in kept] == [before[n].added_ns for n in kept]


def test_publish_refuses_what_does_not_belong_together(data_dir: Path) -> None:
    publish.run(data_dir)
    record = layout.DATABASE_RECORD.load(data_dir)
    for change, words in (
        ({"preparation": None}, "image_matrix"),
        ({"adapt_bn": True}, "adapt_bn"),
        ({"transform_sha256": "e" * 64}, "database.npy was transformed"),
    ):
        layout.DATABASE_RECORD.save(data_dir, record | change)
        with pytest.raises(InputError, match=words):
            publish.run(data_dir)
    layout.DATABASE_RECORD.save(data_dir, record)
    (data_dir / PHOTOS / "7.png").unlink()
    with pytest.raises(InputError, match=r"7\.png is missing.*--image_root_path"):
        publish.run(data_dir)
    with open_store(data_dir) as store:
        assert store.count() == 24


def added_photo(data_dir: Path, sha256: str, model: str, name: str = "store") -> int:
    """Add a photo to the store without a file and without a model; return its id."""
    with open_store(data_dir, name) as store:
        (row,) = store.get([6])
        number = photo_id(sha256)
        store.add([replace(row, id=number, sha256=sha256, path="", model=model, label=9, make="")])
    return number


def test_publish_renews_a_store_of_an_earlier_database(
    data_dir: Path, store_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    publish.run(data_dir, store=store_name)
    number = added_photo(data_dir, "e" * 64, "Audi Q5", store_name)
    with open_store(data_dir, store_name) as store:
        (before,) = store.get([number])
    gallery = write_database(data_dir, 26)
    added_photo(data_dir, provenance.sha256(data_dir / PHOTOS / "25.png"), "", store_name)
    caplog.set_level(logging.INFO)
    assert publish.run(data_dir, store=store_name) == 26
    assert f"{store_name} is of another database: renewing it" in messages(caplog)[-2]
    assert "26 images published" in messages(caplog)[-1]
    assert "added photos kept: 1; it holds 27" in messages(caplog)[-1]
    with open_store(data_dir, store_name) as store:
        rows = store.get(range(26))
        np.testing.assert_array_equal([row.embedding for row in rows], gallery)
        assert store.collection.record == provenance.load_record(data_dir, "database.npy")
        (after,) = store.get([number])
    assert (after.label, after.make, after.model) == (2, "Audi", "Audi Q5")
    np.testing.assert_array_equal(after.embedding, before.embedding)
    assert publish.run(data_dir, store=store_name) == 0


def test_publish_renews_what_is_known_of_images(data_dir: Path, store_name: str) -> None:
    publish.run(data_dir, store=store_name)
    for name, known in (
        ("class_names.csv", ("Audi RS4", "2009")),
        ("car_front.csv", ("Audi RS4", "1999")),
    ):
        path = data_dir / name
        path.write_text(path.read_text().replace("Audi A4", "Audi RS4").replace("2009", "1999"))
        assert publish.run(data_dir, store=store_name) == 24
        with open_store(data_dir, store_name) as store:
            (row,) = store.get([7])
        assert (row.model, row.year) == known


def test_publish_refuses_photos_that_are_others_now(data_dir: Path) -> None:
    publish.run(data_dir)
    shutil.copy(data_dir / PHOTOS / "3.png", data_dir / PHOTOS / "7.png")
    (data_dir / PHOTOS / "3.png").write_bytes(b"another photo")
    with pytest.raises(InputError, match=r"photos of car_front\.csv have changed .* type: python"):
        publish.run(data_dir)


def test_remove_by_ids_and_by_names(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    publish.run(data_dir)
    caplog.set_level(logging.INFO)
    assert remove.run(data_dir, ids=[1, 2, 99]) == 2
    assert "2 images removed; it holds 22" in messages(caplog)[-1]
    assert remove.run(data_dir, make=["ALFA romeo"], year=["2008"], viewpoint=["front side"]) == 4
    assert remove.run(data_dir, model=["4"]) == 6
    with open_store(data_dir) as store:
        left = store.get(store.ids())
        assert len(left) == 12 and store.count(Filter(labels=frozenset({4}))) == 0
    assert not [row for row in left if row.make == "Alfa Romeo" and row.year == "2008"]
    with pytest.raises(InputError, match=r"--make=Alfa: .* there are: Alfa Romeo"):
        remove.run(data_dir, make=["Alfa"])
    with pytest.raises(InputError, match="names or numbers"):
        remove.run(data_dir, model=["1", "Audi Q5"])
    for arguments in ({}, {"ids": [1], "make": ["Audi"]}):
        with pytest.raises(InputError, match="either --ids, or"):
            remove.run(data_dir, **arguments)  # type: ignore[arg-type]


@pytest.fixture
def published(pipeline: Path) -> Path:
    """A data directory of drawn cars, trained, encoded and published."""
    publish.run(pipeline)
    return pipeline


def new_folder(data_dir: Path) -> Path:
    """Draw cars that the database does not have, in sub-folders that name their models."""
    other = data_dir / "other"
    sample.run(other, models=2, images=4, surveillance=1, width=72, height=48, workers=1, seed=11)
    with open_store(data_dir) as store:
        known = store.get([0])[0].model
    folder = data_dir / "new"
    for name, source in zip(
        (known, "Trabant 601"), sorted(other.glob("**/image/*/*")), strict=False
    ):
        shutil.copytree(source, folder / name)
    return folder


def test_added_photos_are_found_and_added_once(
    published: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint, folder = published / "para" / "model.ep0", new_folder(published)
    loose = shutil.copy(next(folder.glob("Trabant 601/*/*.jpg")), published / "loose.jpg")
    (folder / "broken.jpg").write_bytes(b"no picture")
    caplog.set_level(logging.INFO)
    ids = add.run(published, checkpoint, [folder, Path(loose)], batch_size=3)
    files = sorted(folder.glob("*/*/*.jpg"))
    assert len(ids) == len(files) == len(set(ids))
    said = messages(caplog)[-1]
    assert f"{len(files)} photos added, 1 were there, 1 cannot be read" in said
    assert set(ids) == {photo_id(provenance.sha256(file)) for file in files}
    with open_store(published) as store:
        rows = store.get(ids)
        known = store.get([0])[0]
        for row in rows:
            answer = store.search(row.embedding[None], 1)
            assert answer.ids[0, 0] == row.id >= FIRST_PHOTO_ID
    found = {(row.model, row.label, row.make) for row in rows}
    assert found == {
        (known.model, known.label, known.make),
        ("Trabant 601", class_of_name("Trabant 601"), ""),
    }
    assert add.run(published, checkpoint, [folder], batch_size=3) == []
    with pytest.raises(InputError, match="none of the photos can be read"):
        add.run(published, checkpoint, [folder / "broken.jpg"])


def test_a_photo_gets_the_embedding_that_build_image_db_gives(published: Path) -> None:
    checkpoint = published / "para" / "model.ep0"
    image = layout.CAR_FRONT.load(published).iloc[5]
    root = published / "Image_data/data/image"
    assert add.run(published, checkpoint, [root / image["Path"]]) == []  # it is there
    remove.run(published, ids=[5])
    (number,) = add.run(published, checkpoint, [root / image["Path"]])
    with open_store(published) as store:
        embedding = store.get([number])[0].embedding
    np.testing.assert_allclose(embedding, layout.DATABASE.load(published)[5], atol=2e-6)


def test_a_csv_says_what_is_known_of_photos(published: Path) -> None:
    folder = new_folder(published)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*/*.jpg"))[:3]
    table = pd.DataFrame({"Path": files, "ClassName": ["Trabant 601", "", "Wartburg"]})
    table["Class"] = ["", "2", ""]
    table["Make"] = ["Trabant", "", "EMW"]
    table["View Point"] = ["4", "rear", ""]
    table["Year"] = ["1988", "", "1956"]
    for name, value in zip(("X1", "Y1", "X2", "Y2"), (1, 2, 30, 40), strict=True):
        table[name] = [value, "", ""]
    table.to_csv(folder / "list.csv", index=False)
    ids = add.run(published, published / "para" / "model.ep0", [folder / "list.csv"])
    with open_store(published) as store:
        a, b, c = store.get(ids)
    assert (a.make, a.model, a.year, a.viewpoint) == (
        "Trabant",
        "Trabant 601",
        "1988",
        "front side",
    )
    assert a.box == (1, 2, 30, 40) and b.box is None
    assert (b.label, b.viewpoint) == (2, "rear")
    assert (c.label, c.make) == (class_of_name("Wartburg"), "EMW")
    (folder / "list.csv").write_text("Path,Class\nx.jpg,two\n")
    with pytest.raises(InputError, match=r"list\.csv, line 2 .*column Class"):
        add.run(published, published / "para" / "model.ep0", [folder / "list.csv"])


def test_another_checkpoint_is_refused(published: Path) -> None:
    other = published / "para" / "model.ep9"
    other.write_bytes((published / "para" / "model.ep0").read_bytes() + b" ")
    photo = next((published / "Image_data").glob("**/*.jpg"))
    with pytest.raises(InputError, match=r"model\.ep9 is not the model that encoded"):
        add.run(published, other, [photo])


def test_a_new_model_renews_the_store_and_the_photos_that_were_added(
    pipeline: Path,
) -> None:
    checkpoint, photo = pipeline / "para" / "model.ep0", pipeline / "new.jpg"
    publish.run(pipeline)
    shutil.copy(next(new_folder(pipeline).glob("*/*/*.jpg")), photo)
    (with_file,) = add.run(pipeline, checkpoint, [photo])
    without_file = added_photo(pipeline, "e" * 64, "Trabant")
    train_small(pipeline, epoch=1, seed=8)  # in the place of the old one
    with pytest.raises(InputError) as error:
        add.run(pipeline, checkpoint, [photo])
    said = str(error.value)
    assert f"name the one that did: --save_path={checkpoint.parent}/earlier-1/model.ep0" in said
    for command in said.partition("encode the database with this one: ")[2].split(" && "):
        type_command(command)
    assert add.run(pipeline, checkpoint, [photo]) == []  # it is there
    record = provenance.load_record(pipeline, "database.npy") or {}
    encoder = QueryEncoder.load(checkpoint, record)
    preprocessing = Preprocessing.of_record(record, "database.npy")
    with open_store(pipeline) as store:
        assert store.collection.record == record and store.count() == 50
        rows = store.get([0, with_file, without_file])
    squares = [preprocessing.square(photo), preprocessing.square(io.BytesIO(rows[2].thumbnail))]
    expected = [layout.DATABASE.load(pipeline)[0], *encoder.embed(np.stack(squares))]
    np.testing.assert_allclose([row.embedding for row in rows], expected, atol=2e-6)


def type_command(line: str) -> None:
    """Run a command of a message as it is typed, in this process."""
    first, *words = shlex.split(line)
    assert first == "python"
    name, arguments = (words[1], words[2:]) if words[0] == "-m" else (words[0][:-3], words[1:])
    assert importlib.import_module(name).main(arguments) == 0
