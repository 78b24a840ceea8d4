"""The documents against the code: commands parse, files and options are those declared."""

import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from retrieval.data import layout
from retrieval.evaluation.metrics import METRICS
from retrieval.training import options_table

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")]
DOCUMENTS += [ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(text: str) -> list[str]:
    """Return every command of ours in a text, with continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", text)
    joined = re.sub(r"^\s*\$\(call step,(.+)\)$", r"python \1", joined, flags=re.MULTILINE)
    found = re.findall(r"^\s*(?:\$\(PY\)|python3?) (.+)$", joined, re.MULTILINE)
    return [line.split(" #")[0].strip() for line in found if ".venv" not in line]


def all_commands() -> list[str]:
    """Return the commands of the documents and of the Makefile, each once."""
    texts = [path.read_text(encoding="utf-8") for path in (*DOCUMENTS, ROOT / "Makefile")]
    return sorted({command for text in texts for command in commands(text)})


def parse(command: str) -> None:
    """Parse a command with the parser of its stage."""
    first, *rest = shlex.split(command.replace("$(SEED)", "7").replace("$(DEMO)", "demo"))
    if first == "-m":
        name, *arguments = rest
    elif first.startswith("-"):
        return  # python -c and the like
    else:
        name, arguments = first.removesuffix(".py").replace("/", "."), rest
    if name in ("venv", "pip", "pytest"):
        return
    module = importlib.import_module(name)
    if not hasattr(module, "make_parser"):
        assert callable(module.main)
        return
    if arguments != ["-h"]:
        module.make_parser().parse_args(arguments)


def test_every_command_parses(capsys: pytest.CaptureFixture[str]) -> None:
    for command in all_commands():
        try:
            parse(command)
        except SystemExit:
            pytest.fail(f"{command}\n{capsys.readouterr().err}")


ORIGINAL = """
python -m compcars.data_info --dpath=~/ir/
python -m compcars.test_data_info --dpath=~/ir/
python -m process_data.image_matrix --dpath=~/ir/ --image_info=car_front.csv --image_root_path=Image_data/data/image/ --mname=imageset.npy
python -m process_data.image_matrix --dpath=~/ir/ --image_info=tindexinfo.csv --image_root_path=Image_data/sv_data/image/ --mname=test_image.npy
python -m process_data.make_train_valid --dpath=ir
python process_data/data_info.py -h
python train.py --dpath=~/ir/ --save_path=~/ir/para/ --batch_size=64 --epoch=2 --show_batch=5 --lr=0.0001 --lr_shrink=0.9 --arch=resnet50
python build_image_db.py --dpath=~/ir/ --save_path=~/ir/para/model.ep0 --batch_size=64 --input=imageset.npy --output=database.npy --arch=resnet50
python build_image_db.py --dpath=~/ir/ --save_path=~/ir/para/model.ep0 --batch_size=64 --input=test_image.npy --output=tdatabase.npy --arch=resnet50
python -m process_data.mask_data --dpath=~/ir/
python -m process_data.mips --dpath=ir --batch_size=1024 --k=20 --isValid=1 --to_test=valid_for_test.npy --test_matrix=database.npy
python -m process_data.mips --dpath=ir --batch_size=1024 --k=20
python -m process_data.nns --dpath=ir --dimension=32 --k=20 --isValid=1 --to_test=valid_for_test.npy --test_matrix=database.npy
python -m process_data.nns --dpath=ir --dimension=32 --k=20
"""  # noqa: E501


def test_the_original_commands_are_in_the_readme() -> None:
    assert set(commands(ORIGINAL)) <= set(commands(README))


def test_the_readme_names_every_stage() -> None:
    for path in (ROOT / "process_data").glob("[!_]*.py"):
        assert f"process_data.{path.stem}" in README


def test_the_table_of_files_is_that_of_the_code() -> None:
    text = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    section = text.split("## Files of the data directory")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([^`|]+)` \| ([^|]*) \| ([^|]*) \|$", section, re.MULTILINE)
    expected = [
        (file.name, file.form, file.holds.replace("|", "\\|")) for file in layout.declared()
    ]
    assert rows == expected


def test_the_table_of_metrics_is_that_of_the_code() -> None:
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    section = text.split("## Metrics")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([^`|]+)` \| ([^|]*) \|$", section, re.MULTILINE)
    assert rows == [(name, metric.definition) for name, metric in METRICS.items()]


def test_the_table_of_options_is_that_of_the_code() -> None:
    text = options_table.DOCUMENT.read_text(encoding="utf-8")
    assert options_table.BLOCK.findall(text) == [options_table.markdown()]


def test_the_python_of_the_readme_runs(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Image.Image] = []
    monkeypatch.setattr(Image.Image, "show", lambda image: shown.append(image))
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    photo = next(pipeline.glob("Image_data/sv_data/image/*/*.jpg"))
    block = block.replace('"demo/para/model.ep4"', repr(str(pipeline / "para" / "model.ep0")))
    block = block.replace('"photo.jpg"', repr(str(photo))).replace('"demo"', repr(str(pipeline)))
    names: dict[str, Any] = {}
    exec(block.replace("k=20", "k=5"), names)
    assert len(names["found"].answers) == 20
    assert layout.EVALUATION.at(pipeline, "evaluations/expanded-test.json").exists()
    assert len(shown) == 1 and min(shown[0].size) > 400


def anchors(path: Path) -> set[str]:
    """Return the anchors of the headings of a document, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_picture_document_and_heading_that_is_linked_exists() -> None:
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text):
            linked = path.parent / target if target else path
            assert linked.exists(), f"{path} links {target}"
            assert not anchor or anchor in anchors(linked), f"{path} links {target}#{anchor}"
