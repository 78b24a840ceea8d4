"""What all stages have in common: one signature, one parser, three ways to be called."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from process_data import compare
from retrieval import cli
from retrieval.data import layout

ROOT = Path(__file__).resolve().parents[2]
STAGES = [
    *(f"compcars.{name}" for name in ("data_info", "test_data_info", "sample")),
    *(
        f"process_data.{path.stem}"
        for path in sorted((ROOT / "process_data").glob("*.py"))
        if path.stem != "__init__"
    ),
    "train",
    "build_image_db",
]
LIBRARIES = [*ROOT.glob("retrieval/**/*.py"), *ROOT.glob("lopq/*.py")]


@pytest.fixture(params=STAGES)
def stage(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def test_flags_are_the_parameters_with_their_defaults(stage: ModuleType) -> None:
    parser = stage.make_parser()
    parameters = inspect.signature(stage.run).parameters
    actions = {action.dest: action for action in parser._actions if action.dest != "help"}
    assert set(actions) == set(parameters)
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty:
            # Two evaluations can be named by their paths.
            assert actions[name].required or (stage, name) == (compare, "data_dir")
        else:
            assert not actions[name].required
            assert parser.get_default(name) == parameter.default


def test_the_docstring_has_the_command_and_help_shows_the_defaults(stage: ModuleType) -> None:
    text = stage.make_parser().format_help()
    command = (
        f"python -m {stage.__name__} --dpath"
        if "." in stage.__name__
        else f"python {stage.__name__}.py --dpath"
    )
    assert command in text
    for parameter in inspect.signature(stage.run).parameters.values():
        if parameter.default not in (parameter.empty, None):
            assert f"(default: {parameter.default})" in re.sub(r"\s+", " ", text)


# Runs files as `python FILE -h` does, but imports the large libraries only once.
HELP_OF_FILES = """
import os, runpy, sys
import matplotlib, pandas, scipy.io, torch, torchvision
for path in sys.argv[1:]:
    if os.fork() == 0:
        sys.argv, sys.path[0] = [path, "-h"], os.path.dirname(path)
        runpy.run_path(path, run_name="__main__")
    if os.wait()[1]:
        sys.exit(path)
"""


def test_help_works_for_every_file_from_any_folder(tmp_path: Path) -> None:
    paths = [str(ROOT / (name.replace(".", "/") + ".py")) for name in STAGES]
    command = [sys.executable, "-W", "ignore", "-c", HELP_OF_FILES, *paths]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("--dpath") >= len(paths)


@pytest.mark.parametrize("name", STAGES)
def test_a_missing_folder_is_one_line_and_exit_1(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "compcars.sample":
        pytest.skip("it makes the folder")
    module = importlib.import_module(name)
    argv = [f"--dpath={tmp_path / 'no where'}"]
    if name in ("train", "build_image_db", "process_data.export_onnx"):
        argv.append(f"--save_path={tmp_path / 'no where'}")
    if name == "process_data.compare":
        argv += ["mips-test", "nns-test"]
    assert module.main(argv) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in lines if line.startswith("error: ")]) == 1
    assert str(tmp_path) in lines[-1]
    assert list(tmp_path.iterdir()) == []


def test_wrong_usage_is_exit_2(stage: ModuleType) -> None:
    for argv in (["--no_such_flag=1", "--dpath=x"], []):
        with pytest.raises(SystemExit) as error:
            stage.main(argv)
        assert error.value.code == 2


def imports_of(path: Path) -> set[str]:
    found = re.findall(r"^(?:from|import) ([\w.]+)", path.read_text(), re.MULTILINE)
    return {name.split(".")[0] for name in found}


@pytest.mark.parametrize("path", LIBRARIES, ids=lambda path: str(path.relative_to(ROOT)))
def test_libraries_import_no_stage(path: Path) -> None:
    ours = {"compcars", "process_data", "train", "build_image_db"}
    if path.parent.name == "lopq":
        ours.add("retrieval")
    assert not imports_of(path) & ours


def test_stages_import_no_other_stage() -> None:
    for name in STAGES:
        text = (ROOT / (name.replace(".", "/") + ".py")).read_text()
        assert not re.search(r"^(?:from|import) (process_data|train|build_image_db)", text, re.M)


def test_no_stage_spells_a_file_name_of_the_data_directory() -> None:
    for name in STAGES:
        if name == "compcars.sample":
            continue
        path = ROOT / (name.replace(".", "/") + ".py")
        code = re.sub(r'""".*?"""', "", path.read_text(), flags=re.DOTALL)
        for file in layout.declared():
            assert f'"{file.name}"' not in code, f"{path.name} spells {file.name}"


def test_dpath_is_expanded_and_found_under_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    (home / "ir").mkdir(parents=True)
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    assert cli.data_directory("~/ir/") == home / "ir"
    assert capsys.readouterr().err == ""
    assert cli.data_directory("ir") == home / "ir"
    assert capsys.readouterr().err.count("\n") == 1
    (here / "ir").mkdir()
    assert cli.data_directory("ir") == Path("ir")
    assert cli.data_directory("elsewhere") == Path("elsewhere")
    assert capsys.readouterr().err == ""


def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import errno

    def run(data_dir: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(data_dir / "x.npy"))

    parser = cli.stage_parser(run, "")
    assert cli.execute(run, parser, [f"--dpath={tmp_path}"]) == 1
    assert "No space left on device; make room on the disk" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    def run(data_dir: Path) -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        cli.execute(run, cli.stage_parser(run, ""), [f"--dpath={tmp_path}"])
