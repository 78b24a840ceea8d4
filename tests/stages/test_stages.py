"""What all stages have in common: one signature, one parser, three ways to be called."""

import importlib
import inspect
import io
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest

from process_data import compare
from retrieval import cli
from retrieval.data import files, layout, options
from retrieval.data.command_lines import FLAG_OF

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
# What a command cannot do without, by the name of the parameter.
REQUIRED = {"data_dir": "--dpath=x", "save_path": "--save_path=x", "image": "--image=x"}
REQUIRED |= {"first": "x", "second": "x"}


def stages() -> Iterator[ModuleType]:
    return map(importlib.import_module, STAGES)


def option_groups(stage: ModuleType) -> dict[str, type]:
    """Return the parameters of a stage that hold several options: name -> dataclass."""
    hints = get_type_hints(stage.run)
    return {name: hint for name, hint in hints.items() if is_dataclass(hint) and name != "return"}


def grouped_options(stage: ModuleType) -> set[str]:
    """Return the options of a stage that are fields of a dataclass."""
    kinds = option_groups(stage).values()
    return {name for kind in kinds for name in options.declared_options(kind)}


def defaults_of(stage: ModuleType) -> dict[str, Any]:
    """Return the options of a stage with their defaults, those of dataclasses one by one."""
    parameters, groups = inspect.signature(stage.run).parameters, option_groups(stage)
    defaults = {name: p.default for name, p in parameters.items() if name not in groups}
    defaults["threads"] = 0  # of every command, for the whole process
    for kind in groups.values():
        declared = options.declared_options(kind)
        defaults |= {name: option.default for name, option in declared.items()}
    return defaults


def words_of(stage: ModuleType, **given: str) -> list[str]:
    """Return a command line: what the stage needs, and some options more."""
    parameters = inspect.signature(stage.run).parameters.items()
    words = {name: REQUIRED[name] for name, of in parameters if of.default is of.empty}
    return [word for word in (words | given).values() if word]


def test_flags_are_the_parameters_with_their_defaults() -> None:
    for stage in stages():
        parser, defaults = stage.make_parser(), defaults_of(stage)
        found = vars(parser.parse_args(words_of(stage)))
        assert set(found) == set(defaults)
        for name, default in defaults.items():
            if default is not inspect.Parameter.empty:
                assert found[name] in (default, None)
                assert found[name] == default or name in grouped_options(stage)
            elif (stage, name) != (compare, "data_dir"):  # evaluations can be named by paths
                with pytest.raises(SystemExit):
                    parser.parse_args(words_of(stage, **{name: ""}))


def test_the_docstring_has_the_command_and_help_shows_the_defaults() -> None:
    for stage in stages():
        text = stage.make_parser().format_help()
        command = (
            f"python -m {stage.__name__} --dpath"
            if "." in stage.__name__
            else f"python {stage.__name__}.py --dpath"
        )
        assert command in text
        for name, default in defaults_of(stage).items():
            is_shown = stage.make_parser().get_default(name) is not None
            if is_shown and default is not inspect.Parameter.empty:
                assert f"(default: {default})" in re.sub(r"\s+", " ", text)


def test_a_missing_folder_is_one_line_and_exit_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in STAGES:
        if name == "compcars.sample":
            continue  # it makes the folder
        module = importlib.import_module(name)
        argv = [f"--dpath={tmp_path / 'no where'}"]
        takes_photos = name in ("process_data.search", "process_data.add")
        with_checkpoint = (
            "train",
            "build_image_db",
            "process_data.export_onnx",
            "process_data.serve",
        )
        if takes_photos or name in with_checkpoint:
            argv.append(f"--save_path={tmp_path / 'no where'}")
        if takes_photos:
            argv.append(f"--image={tmp_path / 'no where'}")
        if name == "process_data.compare":
            argv += ["mips-test", "nns-test"]
        assert module.main(argv) == 1
        lines = capsys.readouterr().err.strip().splitlines()
        assert len([line for line in lines if line.startswith("error: ")]) == 1
        assert str(tmp_path) in lines[-1]
        assert list(tmp_path.iterdir()) == []


def test_wrong_usage_is_exit_2() -> None:
    for stage in stages():
        for argv in (["--no_such_flag=1", "--dpath=x"], []):
            with pytest.raises(SystemExit) as error:
                stage.main(argv)
            assert error.value.code == 2


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


NEVER_PATHS = {"title", "token", "make", "model"}


def test_every_text_option_expands_home(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for stage in stages():
        check_paths(stage, capsys)


def check_paths(stage: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    parser = stage.make_parser()

    def parsed(name: str, text: str) -> Any:
        flag = FLAG_OF.get(name, "dpath" if name == "data_dir" else name)
        word = text if REQUIRED.get(name) == "x" else f"--{flag}={text}"
        value = getattr(parser.parse_args(words_of(stage, **{name: word})), name)
        return value[0] if isinstance(value, list) else value

    for name in defaults_of(stage):
        try:
            parsed(name, "x")
        except SystemExit:  # it takes a number, one of some words, or nothing
            continue
        if name in NEVER_PATHS:
            assert parsed(name, "~/x") == "~/x"
            continue
        assert str(parsed(name, "~/x")) == "/home/me/x", name
        capsys.readouterr()
        with pytest.raises(SystemExit) as error:
            parsed(name, "~nobody.is.called.this/x")
        assert error.value.code == 2 and "no such home" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["", "x" * 5000, "~nobody.is.called.this/x"])
def test_a_data_directory_that_cannot_be_is_wrong_usage(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        cli.stage_parser(lambda: None, "").parse_args([f"--dpath={path}"])
    assert error.value.code == 2 and "argument --dpath:" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_any_terminal_can_be_printed_to(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(data_dir: Path) -> None:
        print("Škoda 漢字 \udcff")
        print("é 漢字", file=sys.stderr)

    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert cli.execute(run, cli.stage_parser(run, ""), [f"--dpath={tmp_path}"]) == 0
    assert "koda \\u6f22\\u5b57 \\udcff" in out.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize(("device", "status"), [("a pipe", 1), ("/dev/full", 1)])
def test_an_output_that_ends_early_is_no_bug(
    device: str,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(data_dir: Path) -> None:
        for _ in range(3000):  # more than a buffer holds
            print("a line")

    if device == "a pipe":
        reading, writing = os.pipe()
        os.close(reading)
        out = open(writing, "w")  # noqa: PTH123, SIM115
    else:
        out = open(device, "w")  # noqa: PTH123, SIM115
    monkeypatch.setattr(sys, "stdout", out)
    assert cli.execute(run, cli.stage_parser(run, ""), [f"--dpath={tmp_path}"]) == status
    out.close()  # as the end of a process does: nothing is left to be written
    said = capsys.readouterr().err
    assert said.count("\n") == (0 if device == "a pipe" else 1)
    assert device == "a pipe" or "make room" in said


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


def test_an_output_below_a_file_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()

    def run(data_dir: Path) -> None:
        files.write_text(data_dir / "file" / "x.txt", "")

    assert cli.execute(run, cli.stage_parser(run, ""), [f"--dpath={tmp_path}"]) == 1
    assert "name a folder, not a file" in capsys.readouterr().err
