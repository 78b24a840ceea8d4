"""What messages tell people to type works as it is typed."""

import re
import shlex
from pathlib import Path

import pytest

from process_data import data_info, mips
from retrieval.data import layout
from retrieval.data.formats import InputError
from tests.conftest import SIDE
from tests.test_docs import ROOT, parse
from tests.typed import type_commands

SOURCES = ("retrieval", "process_data", "compcars", "lopq")


def test_the_command_of_every_file_parses(tmp_path: Path) -> None:
    data_dir = tmp_path / "my cars"
    for file in layout.declared():
        command = file.made_by(data_dir)
        assert shlex.quote(f"--dpath={data_dir}") in command
        parse(command.removeprefix("python "))


def test_no_message_leaves_a_value_out() -> None:
    """Only commands on a report's page do: it is passed on without the folders of its maker."""
    of_reports = ROOT / "retrieval/data/command_lines.py"
    for path in (path for folder in SOURCES for path in (ROOT / folder).rglob("*.py")):
        if path != of_reports:
            found = re.findall(r"--\w+=\.\.\.", path.read_text(encoding="utf-8"))
            assert not found, f"{path}: {found}"


@pytest.mark.parametrize(
    "file", [layout.DATABASE, layout.TEST_DATABASE, layout.GALLERY_MASK, layout.TEST_MASKED]
)
def test_typing_the_remedy_of_a_missing_file_makes_it(pipeline: Path, file: layout.File) -> None:
    before = file.at(pipeline).read_bytes()
    file.at(pipeline).unlink()
    with pytest.raises(InputError, match="is missing") as error:
        mips.run(pipeline, k=5)
    type_commands(str(error.value).rpartition("make it with: ")[2])
    assert file.at(pipeline).read_bytes() == before
    mips.run(pipeline, k=5)


def test_the_matrix_of_other_photos_is_made_from_their_list(tree: Path) -> None:
    photos = "Image_data/data/image"
    data_info.run(tree, photos)
    with pytest.raises(InputError, match="is missing") as error:
        layout.IMAGE_MATRIX.load(tree)
    command = str(error.value).rpartition("make it with: ")[2]
    assert f"--image_info=indexinfo.csv --image_root_path={photos}" in command
    type_commands(f"{command} --image_resolution={SIDE}")
    assert layout.IMAGE_MATRIX.load(tree).shape[-1] == SIDE


def test_a_name_of_ones_own_is_part_of_the_command(tmp_path: Path) -> None:
    for name, command in (
        ("mine.npy", "python build_image_db.py .* --output=mine.npy$"),
        ("mine.json", "python build_image_db.py .* --output=mine.npy$"),
        ("test_image.json", "python -m process_data.image_matrix .* --mname=test_image.npy$"),
        ("database_t.npy", "python -m process_data.transform --dpath=[^ ]*$"),
    ):
        assert re.search(command, layout.DATABASE.made_by(tmp_path, name)), name


def test_the_newest_checkpoint_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "para"
    folder.mkdir()
    for file in ("", "model.untrained", "model.ep9", "model.ep10", "model.ep10.part"):
        if file:
            (folder / file).touch()
        expected = folder / {"": "model.ep0", "model.ep10.part": "model.ep10"}.get(file, file)
        assert f"--save_path={expected}" in layout.DATABASE.made_by(tmp_path).split()
