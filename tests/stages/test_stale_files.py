"""Each file that is made from others: one of them changes, and the next reader notices.

The cases are the rows of the table in docs/reliability.md. Where a reader only says what is old,
what it says is typed, and then nothing is old any more.
"""

import importlib
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import build_image_db
from compcars import test_data_info
from process_data import (
    contact_sheet,
    data_info,
    image_matrix,
    make_train_valid,
    mask_data,
    mips,
    publish,
    summary,
    transform,
)
from retrieval.data import files, layout
from retrieval.data.decoded_photos import PhotoOptions
from retrieval.data.formats import InputError
from retrieval.evaluation.calibration import load_calibration, save_calibration
from retrieval.evaluation.inputs import load_query_gallery
from retrieval.ingest.current_store import bring_up_to_date
from retrieval.ingest.publishing import load_source
from retrieval.photo_search.engine import PhotoSearch
from retrieval.report import image_audit
from retrieval.store.backends import open_store
from retrieval.training.cameras import add_cameras
from retrieval.training.dataset import TrainingData
from retrieval.web.image_database import ImageDatabase
from tests.calibrations import MEASURES, some_calibration
from tests.conftest import IMAGES, SIDE, replace_embeddings, train_small
from tests.typed import type_commands

ROOT = Path(__file__).resolve().parents[2]
SPLIT = {"ratio": 4, "min_len": IMAGES}
WEB, CAMERAS = "Image_data/data/image/", "Image_data/sv_data/image/"


@dataclass
class World:
    """A data directory with files of every stage, and what was said about it."""

    data_dir: Path
    caplog: pytest.LogCaptureFixture

    @property
    def checkpoint(self) -> Path:
        return self.data_dir / "para" / "model.ep0"

    def photo(self, number: int = 0) -> Path:
        """Return the file of an image of the database."""
        table = layout.CAR_FRONT.load(self.data_dir).sort_values("Index")
        return self.data_dir / WEB / str(table["Path"].iloc[number])

    def change_photo(self, number: int = 0) -> None:
        """Put another photo in the place of one; the files of other cases are links to it."""
        photo, other = self.photo(number), self.photo(number + 1).read_bytes()
        photo.unlink()
        photo.write_bytes(other + b"\0")

    def change_table(self, name: str, **columns: object) -> None:
        table = layout.IMAGE_INDEX.load(self.data_dir, name)
        text = table.assign(**columns).to_csv(index=False)
        files.write_text(self.data_dir / name, text)

    def change_order(self, name: str) -> None:
        """List the same images in another order."""
        table = layout.IMAGE_INDEX.load(self.data_dir, name)
        self.change_table(name, Index=table["Index"].to_numpy()[::-1])

    def change_embeddings(self) -> None:
        rows = np.array(layout.DATABASE.load(self.data_dir))[:, ::-1]
        replace_embeddings(self.data_dir, np.ascontiguousarray(rows))

    def warnings(self) -> list[str]:
        records = [of for of in self.caplog.records if of.levelno >= logging.WARNING]
        said = [of.getMessage() for of in records if not of.name.endswith("result_sheet")]  # fonts
        self.caplog.clear()
        return said

    def says(self, read: Callable[[], object], *words: str, typed: bool = True) -> None:
        """Read, and find one line with these words; what it says to type makes it go away."""
        read()
        (line,) = self.warnings()
        assert all(word in line for word in words), line
        if typed:
            type_commands(line.rpartition("type: ")[2])
            self.warnings()
            read()
            assert self.warnings() == []


@pytest.fixture(scope="session")
def _world(_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("world") / "ir"
    shutil.copytree(_pipeline, data_dir)
    (data_dir / "evaluations" / "mips-valid.json").unlink()  # one evaluation, by one command
    build_image_db.run(data_dir, data_dir / "para" / "model.ep0")  # from its own checkpoint
    transform.run(data_dir)
    mask_data.run(data_dir)
    mips.run(data_dir, k=5)
    found = load_query_gallery(data_dir, is_valid=True)
    fitted = some_calibration(), MEASURES
    save_calibration(data_dir, "database.npy", *fitted, found.inputs.paths)
    publish.run(data_dir)
    return data_dir


@pytest.fixture
def world(_world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> World:
    data_dir = tmp_path / "ir"
    shutil.copytree(_world, data_dir, copy_function=os.link)
    return World(data_dir, caplog)


def make_matrix(world: World, **options: object) -> None:
    image_matrix.run(world.data_dir, image_resolution=SIDE, **options)  # type: ignore[arg-type]


def search(world: World) -> None:
    mips.run(world.data_dir, k=5)


def photos_and_list(world: World) -> None:
    shutil.copy(world.photo(), world.photo().with_name("zzz.jpg"))
    label = str(world.photo()).replace("/image/", "/label/").replace(".jpg", ".txt")
    shutil.copy(label, Path(label).with_name("zzz.txt"))
    world.says(lambda: make_matrix(world), f"car_front.csv is older than {WEB.rstrip('/')}")
    assert len(layout.IMAGE_MATRIX.load(world.data_dir)) == 49


def photo_and_matrix(world: World) -> None:
    world.change_photo()
    checkpoint = world.checkpoint
    world.says(
        lambda: build_image_db.run(world.data_dir, checkpoint),
        "imageset.npy is older than its photos",
    )


def photo_and_shards(world: World) -> None:
    make_matrix(world, shards=2)
    before = layout.IMAGE_MATRIX.at(world.data_dir).read_bytes()
    photo = world.photo()
    content = bytearray(photo.read_bytes())
    content[len(content) // 2] ^= 1
    photo.unlink()
    photo.write_bytes(content + b"0")  # of another size
    make_matrix(world, shards=2)
    assert layout.IMAGE_MATRIX.at(world.data_dir).read_bytes() != before


def list_and_matrix(world: World) -> None:
    world.change_order("car_front.csv")
    world.says(
        lambda: build_image_db.run(world.data_dir, world.checkpoint),
        "imageset.npy is older than car_front.csv",
    )


def list_and_split(world: World) -> None:
    labels = layout.CAR_FRONT.load(world.data_dir)["Class"].to_numpy(copy=True)
    labels[0] = labels[-1]
    world.change_table("car_front.csv", Class=labels)
    world.says(lambda: search(world), "split.json is older than car_front.csv")


def list_and_classes_of_queries(world: World) -> None:
    folder = world.data_dir / "own"
    for place in ("photos/b", "photos/c", "queries/b"):
        (folder / place).mkdir(parents=True)
        shutil.copy(world.photo(), folder / place / "1.jpg")
    data_info.run(folder)
    data_info.run(folder, "queries/", "tindexinfo.csv", "indexinfo.csv", queries=True)
    shutil.copytree(folder / "photos/b", folder / "photos/a")
    data_info.run(folder)

    def read() -> None:
        image_matrix.run(folder, "tindexinfo.csv", "queries/", "test_image.npy", 8)

    world.says(read, "tindexinfo.csv is older than indexinfo.csv")
    assert layout.TEST_QUERIES.load(folder).tolist() == [[0, 1]]
    names = layout.CAR_FRONT.load(world.data_dir)["Class"].astype(str)
    world.change_table("car_front.csv", ClassName=names)
    tests = layout.TEST_INDEX.load(world.data_dir)["Class"]
    world.change_table("tindexinfo.csv", ClassName=(tests + 1).astype(str))
    with pytest.raises(InputError, match="list these images again: process_data.data_info"):
        mask_data.run(world.data_dir)


def list_and_queries(world: World) -> None:
    labels = layout.TEST_INDEX.load(world.data_dir)["Class"].to_numpy(copy=True)
    world.change_table("tindexinfo.csv", Class=labels[::-1])
    with pytest.raises(
        InputError, match=r"test\.npy has image .* but tindexinfo\.csv has"
    ) as error:
        mask_data.run(world.data_dir)
    assert str(error.value).endswith(
        f"make both again: python -m compcars.test_data_info --dpath={world.data_dir} --split=all"
    )


def queries_and_masks(world: World) -> None:
    rows = np.array(layout.TEST_QUERIES.load(world.data_dir))
    rows[:, 1] = rows[::-1, 1]
    layout.TEST_QUERIES.save(world.data_dir, rows)
    with pytest.raises(InputError, match=r"run again: python -m process_data\.mask_data"):
        search(world)


def split_and_masks(world: World) -> None:
    make_train_valid.run(world.data_dir, **SPLIT, seed=8)
    with pytest.raises(InputError, match="made for another split; run again"):
        search(world)
    mask_data.run(world.data_dir)
    search(world)


def split_and_checkpoint(world: World) -> None:
    make_train_valid.run(world.data_dir, **SPLIT, seed=8)
    for options in ({"epoch": 2, "start_epoch": 0}, {"epoch": 1, "resume": "auto"}):
        with pytest.raises(InputError, match="start a new run without --resume"):
            train_small(world.data_dir, **options)
    mask_data.run(world.data_dir)
    with pytest.raises(InputError, match="trained on another split of the same images"):
        mips.run(world.data_dir, k=5, is_valid=True)


def matrix_and_checkpoint(world: World) -> None:
    make_matrix(world, filter_type="Black")
    world.says(
        lambda: train_small(world.data_dir, epoch=2, resume="auto"),
        "was trained on another imageset.npy",
        typed=False,
    )


def list_and_camera_matrix(world: World) -> None:
    index, matrix = layout.CAMERA_INDEX.name, layout.CAMERA_MATRIX.name
    test_data_info.run(world.data_dir, "train")
    make_matrix(world, image_info=index, image_root_path=CAMERAS, mname=matrix)
    world.change_order(index)
    layout.TEST_INDEX.at(world.data_dir).unlink()  # nor any image that is a query, too
    layout.TEST_MATRIX.at(world.data_dir).unlink()
    data = TrainingData.load(world.data_dir, has_tuples=False)
    with pytest.raises(InputError, match=f"{matrix} was made from another list") as error:
        add_cameras(data, world.data_dir, index, matrix)
    type_commands(str(error.value).rpartition("with: ")[2].rpartition(" && ")[2])
    add_cameras(data, world.data_dir, index, matrix)


def matrix_and_embeddings(world: World) -> None:
    make_matrix(world, filter_type="Black")
    world.says(lambda: search(world), "database.npy is older than imageset.npy")


def checkpoint_and_embeddings(world: World) -> None:
    train_small(world.data_dir, epoch=1, seed=8)
    world.warnings()
    with pytest.raises(InputError, match="encode the database with this one: python"):
        PhotoSearch.open(world.data_dir, world.checkpoint)
    world.says(lambda: search(world), "database.npy is older than para/model.ep0")


def checkpoint_and_shards(world: World) -> None:
    found = set()
    for change in (
        lambda: None,
        lambda: train_small(world.data_dir, epoch=1, seed=8),
        lambda: make_matrix(world, filter_type="Black"),
    ):
        change()
        path = build_image_db.run(world.data_dir, world.checkpoint, shards=2)
        found.add(path.read_bytes())
    assert len(found) == 3


def list_and_embeddings(world: World) -> None:
    world.change_order("car_front.csv")
    with pytest.raises(InputError, match="another list of images than car_front.csv") as error:
        PhotoSearch.open(world.data_dir, world.checkpoint)
    type_commands(str(error.value).rpartition("again: ")[2].partition(" && ")[2])
    PhotoSearch.open(world.data_dir, world.checkpoint)


def photo_and_embeddings(world: World) -> None:
    build_image_db.run(
        world.data_dir,
        world.checkpoint,
        output="photos.npy",
        image_info="car_front.csv",
        photos=PhotoOptions(image_resolution=SIDE),
    )
    world.change_photo()
    with pytest.raises(InputError, match=r"have changed since photos\.npy was made") as error:
        load_source(world.data_dir, "photos.npy", None)
    type_commands(str(error.value).rpartition("type: ")[2].rpartition(" && ")[2])
    load_source(world.data_dir, "photos.npy", None)


def embeddings_and_masks(world: World) -> None:
    world.change_embeddings()
    world.says(lambda: search(world), "masks.json is older than database.npy")


def embeddings_and_transformed(world: World) -> None:
    world.change_embeddings()
    names = {"database": "database_t.npy", "test_matrix": "tdatabase_t.npy"}
    world.says(
        lambda: mips.run(world.data_dir, k=5, **names),  # type: ignore[arg-type]
        "database_t.npy is older than database.npy",
    )


def embeddings_and_evaluations(world: World) -> None:
    world.change_embeddings()
    world.says(
        lambda: summary.run(world.data_dir),
        "mips-test: older than database.npy",
    )


def embeddings_and_ranking(world: World) -> None:
    world.change_embeddings()
    world.says(
        lambda: contact_sheet.run(world.data_dir, rows=1, k=1),
        "mAP.json is older than database.npy",
    )


def embeddings_and_calibration(world: World) -> None:
    world.change_embeddings()
    world.says(
        lambda: load_calibration(world.data_dir, "database.npy"),
        "is ignored; fit it again: python -m process_data.calibrate",
        typed=False,
    )
    assert load_calibration(world.data_dir, "database.npy") is None


def split_and_calibration(world: World) -> None:
    make_train_valid.run(world.data_dir, **SPLIT, seed=8)
    world.says(
        lambda: load_calibration(world.data_dir, "database.npy"),
        "calibration.json is older than valid_for_test.npy",
        typed=False,
    )


def embeddings_and_store(world: World) -> None:
    world.change_embeddings()
    bring_up_to_date(world.data_dir, world.checkpoint, "database.npy", "store")
    with open_store(world.data_dir) as store:
        rows = store.get(range(48))
    database = layout.DATABASE.load(world.data_dir)
    np.testing.assert_array_equal([row.embedding for row in rows], database)


def names_and_store(world: World) -> None:
    table = layout.CLASS_NAMES.load(world.data_dir)
    layout.CLASS_NAMES.save(world.data_dir, table.assign(ClassName=table["ClassName"] + " II"))
    bring_up_to_date(world.data_dir, world.checkpoint, "database.npy", "store")
    with open_store(world.data_dir) as store:
        assert store.get([0])[0].model.endswith(" II")


def checkpoint_and_store(world: World) -> None:
    train_small(world.data_dir, epoch=1, seed=8)
    with pytest.raises(InputError, match="encode the database with this one") as error:
        bring_up_to_date(world.data_dir, world.checkpoint, "database.npy", "store")
        ImageDatabase.open(world.data_dir, world.checkpoint, "store", "cpu")
    type_commands(str(error.value).rpartition("this one: ")[2].partition(" && ")[0])
    bring_up_to_date(world.data_dir, world.checkpoint, "database.npy", "store")
    ImageDatabase.open(world.data_dir, world.checkpoint, "store", "cpu").store.close()


def list_and_audit(world: World) -> None:
    world.change_order("car_front.csv")
    with pytest.raises(InputError, match=r"imageset\.npy was made from another list"):
        image_audit.load_images(world.data_dir)


# (changed, made from it) -> what is tried, or the test elsewhere that tries it.
CASES: dict[tuple[str, str], Callable[[World], None] | str] = {
    ("names of the photos in a folder", "index csv"): photos_and_list,
    ("size of a photo in bytes", "image matrix"): photo_and_matrix,
    ("size of a photo in bytes", "image matrix in shards"): photo_and_shards,
    ("index csv", "image matrix"): list_and_matrix,
    ("index csv", "split"): list_and_split,
    ("index csv", "index csv of queries"): list_and_classes_of_queries,
    ("index csv of queries", "`test.npy`"): list_and_queries,
    ("`test.npy`", "masks"): queries_and_masks,
    ("split", "masks"): split_and_masks,
    ("split", "checkpoint"): split_and_checkpoint,
    ("image matrix", "checkpoint"): matrix_and_checkpoint,
    ("csv of camera images", "their image matrix"): list_and_camera_matrix,
    ("image matrix", "embeddings"): matrix_and_embeddings,
    ("checkpoint", "embeddings"): checkpoint_and_embeddings,
    ("index csv", "embeddings"): list_and_embeddings,
    ("size of a photo in bytes", "embeddings of photos"): photo_and_embeddings,
    ("checkpoint, images", "embeddings in shards"): checkpoint_and_shards,
    ("embeddings", "masks"): embeddings_and_masks,
    ("embeddings", "transformed embeddings"): embeddings_and_transformed,
    ("embeddings", "evaluations"): embeddings_and_evaluations,
    ("embeddings", "the last ranking"): embeddings_and_ranking,
    ("embeddings, split", "`lopq.index`"): (
        "tests/stages/test_nns.py::test_the_index_is_used_again_until_something_changes"
    ),
    ("embeddings, fitted model", "`lopq.index` in shards"): (
        "tests/stages/test_nns_shards.py::test_shards_of_another_model_are_not_joined"
    ),
    ("embeddings", "calibration"): embeddings_and_calibration,
    ("split", "calibration"): split_and_calibration,
    ("embeddings", "store"): embeddings_and_store,
    ("index csv, class names", "store"): names_and_store,
    ("checkpoint", "store"): checkpoint_and_store,
    ("checkpoint", "photos added to the store"): (
        "tests/stages/test_store_stages.py::"
        "test_a_new_model_renews_the_store_and_the_photos_that_were_added"
    ),
    ("rows of the store", "index of the store"): (
        "tests/store/test_approximate.py::test_rows_come_and_go_between_renewals"
    ),
    ("a photo", "picture and thumbnail on the page"): (
        "tests/web/test_images.py::test_a_photo_that_was_replaced_is_shown_as_it_was_published"
    ),
    ("store", "pictures in a browser's cache"): (
        "tests/web/test_images.py::test_another_image_under_the_same_id_is_another_picture"
    ),
    ("index csv", "audit"): list_and_audit,
    ("checkpoint", "`model.onnx`"): (
        "tests/stages/test_export_onnx.py::test_the_exported_model_embeds_as_torch_does"
    ),
}


@pytest.mark.parametrize("pair", CASES, ids=lambda pair: f"{pair[0]} - {pair[1]}")
def test_a_file_that_is_older_than_its_source_is_noticed(
    pair: tuple[str, str], world: World
) -> None:
    case = CASES[pair]
    if isinstance(case, str):
        path, _, name = case.partition("::")
        module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        assert callable(getattr(module, name))
        return
    case(world)


def test_nothing_is_old_after_a_whole_run(world: World) -> None:
    search(world)
    summary.run(world.data_dir)
    contact_sheet.run(world.data_dir, rows=1, k=1)
    bring_up_to_date(world.data_dir, world.checkpoint, "database.npy", "store")
    assert load_calibration(world.data_dir, "database.npy") is not None
    assert world.warnings() == []


def test_the_table_of_the_documents_has_all_cases() -> None:
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    table = text.partition("| changed | derived file | then |")[2].partition("\n\n")[0]
    lines = [line.strip("|").split("|") for line in table.strip().splitlines()[1:]]
    assert [(line[0].strip(), line[1].strip()) for line in lines] == list(CASES)
