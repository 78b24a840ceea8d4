"""Every benchmark runs at a tiny size; figures are not looked at, only that they are there."""

import importlib
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import gpu, measured_process, results
from benchmarks.encode import from_photos, image_matrix, ray_tasks, runtimes
from benchmarks.pipeline import commands, cost, lists, many_rows, stages
from benchmarks.search import exact, store
from benchmarks.serve import load
from benchmarks.train import speed
from retrieval.model import runtime


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run commands in this process, which saves starting an interpreter for each."""

    def run(
        command: Sequence[str], threads: int, folder: Path = measured_process.ROOT
    ) -> measured_process.Usage:
        words = list(command[1:])
        if words[0] == "-m":
            words.pop(0)
        name = words[0].removesuffix(".py")
        start = time.perf_counter()
        try:
            assert importlib.import_module(name).main(words[1:]) == 0
        except SystemExit as end:
            assert end.code == 0
        return measured_process.Usage(time.perf_counter() - start, 0.0, 1_000_000, "")

    monkeypatch.setattr(measured_process, "run", run)


@pytest.fixture
def calls_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call functions in this process, which saves starting an interpreter for each."""

    usage = measured_process.Usage(1.0, 1.0, 10**6, "")

    def call(function: Callable[..., Any], threads: int, /, **arguments: Any) -> tuple[Any, Any]:
        return function(**arguments), usage

    monkeypatch.setattr(measured_process, "call", call)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def tiny(module: object, output: Path, options: str) -> None:
    parser = module.make_parser()  # type: ignore[attr-defined]
    args = parser.parse_args([*options.split(), f"--output={output}"])
    module.run(args)  # type: ignore[attr-defined]


@pytest.mark.usefixtures("calls_here")
def test_photos(tmp_path: Path) -> None:
    sizes = "--width=96 --height=64 --side=32 --images=8 --batch=4"
    tiny(from_photos, tmp_path, f"--network=timm/test_resnet {sizes} --repeats=1")
    table = results.latest(tmp_path, "photos").set_index("method")
    assert list(table.index) == ["decoding alone", "encoding alone", "photos to embeddings"]
    assert (table["images_per_s"] > 0).all()


@pytest.mark.skipif(not os.environ.get("TEST_BENCH_RAY"), reason="TEST_BENCH_RAY=1: a minute")
def test_ray(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    sizes = "--width=96 --height=64 --side=32 --images=8 --batch=4 --shards=2"
    tiny(ray_tasks, tmp_path, f"--network=timm/test_resnet {sizes} --repeats=1")
    table = results.latest(tmp_path, "ray").set_index("engine")
    assert list(table.index) == ["local", "ray"]
    assert table["same_bytes"].tolist() == ["yes", "yes"]


@pytest.mark.usefixtures("here")
def test_image_matrix(tmp_path: Path) -> None:
    tiny(image_matrix, tmp_path, "--photos 480x320 --scale=0.005 --repeats=1")
    table = results.latest(tmp_path, "image_matrix").set_index("method")
    assert set(table.index) == set(image_matrix.METHODS)
    assert (table["images_per_s"] > 0).all()
    assert (table["PSNR_dB"].dropna() > 30).all()


@pytest.mark.usefixtures("here")
def test_index(tmp_path: Path) -> None:
    tiny(lists, tmp_path, "--labels=0.002 --splits 0.02 --repeats=1")
    table = results.latest(tmp_path, "index")
    assert table["images"].tolist() == [273, 1355]
    assert (table["written"] > 0).all()


@pytest.mark.usefixtures("here")
def test_mips(tmp_path: Path) -> None:
    tiny(exact, tmp_path, "--rows 300 --n_query=20 --dim=16 --k=3 --repeats=1")
    table = results.latest(tmp_path, "mips").set_index("method")
    assert set(table.index) == set(exact.METHODS)
    assert (table["ids_as_in_float64"].dropna() == 1).all()


@pytest.mark.usefixtures("here")
def test_large(tmp_path: Path) -> None:
    tiny(many_rows, tmp_path, "--rows 400 800 --n_query=20 --dim=32")
    table = results.latest(tmp_path, "large").set_index(["stage", "rows"])
    assert table.loc[("mips", 400), "work"] > 0.8 * 400 * 20  # some classes may be minor
    assert (table["peak_MB"] > 0).all()


def test_store(tmp_path: Path) -> None:
    path = tmp_path / "embeddings.npy"
    np.save(path, np.random.default_rng(0).standard_normal((300, 12), dtype=np.float32))
    options = f"--rows 2000 --dim 16 --queries 3 --k 5 --embeddings {path}"
    tiny(store, tmp_path, f"{options} --probes 20 --refine 10")
    table = results.latest(tmp_path, "store")
    is_exact = table["method"].str.startswith("exact")
    assert (table[is_exact]["recall"] == 1).all() and not table[is_exact]["short_answers"].any()
    assert set(table[~is_exact]["method"]) == {"the store's index (LOPQ)", "Lance IVF_PQ"}
    assert (table["recall"] > 0.2).all() and (table["ms_p50"] > 0).all()
    assert (results.latest(tmp_path, "store_add")["rows_per_s"] > 100).all()


def test_serve(tmp_path: Path, pipeline: Path) -> None:
    served = (
        f"--dpath={pipeline} --save_path={pipeline / 'para' / 'model.ep0'} --port={free_port()}"
    )
    tiny(
        load,
        tmp_path,
        f"{served} --rows 200 --clients 1 3 --seconds 1 --memory_requests 9 --memory_seconds 1",
    )
    table = results.latest(tmp_path, "serve")
    assert table["clients"].tolist() == [1, 3] and not table["refused"].any()
    assert (table["ms_p50"] <= table["ms_p95"]).all() and (table["requests"] > 0).all()
    assert (results.latest(tmp_path, "serve_memory")["rss_MB"] > 50).all()


@pytest.mark.usefixtures("here")
def test_stages(tmp_path: Path) -> None:
    small = "--photos=14 --side=32 --repeats=1 --stages data_info image_matrix make_train_valid"
    tiny(stages, tmp_path, f"--sizes 10 {small} --samples={tmp_path}")
    table = results.latest(tmp_path, "pipeline").set_index("stage")
    assert table.loc["image_matrix", "work"] == 28
    assert (table["written_MB"] > 0).all()


def test_costs_are_those_of_the_stored_rates() -> None:
    first = cost.table(cost.stages(results.FOLDER)).iloc[0]
    assert first["stage"] == "decode photos of 920x620"
    assert first["1 billion: core-hours"] == "810"  # 686 images/s on two cores


@pytest.mark.parametrize("stage", commands.stages(commands.Settings()), ids=lambda s: s.name)
def test_commands_of_the_stages_parse(stage: commands.Stage) -> None:
    words = stage.command(Path("x"))[1:]
    name = words.pop(0).removesuffix(".py")
    name = words.pop(0) if name == "-m" else name
    importlib.import_module(name).make_parser().parse_args(words)


@pytest.mark.usefixtures("calls_here")
def test_encode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(runtime.START, "onnxruntime")  # a start takes seconds
    monkeypatch.setattr(runtime, "fastest", lambda model, _: ("torch", model.eval()))
    small = "--quick --networks resnet18 --side=32 --batches 2 --images=4 --seconds=0.01"
    tiny(runtimes, tmp_path, f"{small} --threads=1")
    table = results.latest(tmp_path, "encode").set_index("method")
    assert {runtimes.NAIVE, runtimes.OURS, "torch folded"} <= set(table.index)
    assert (table["images_per_s"] > 0).all()
    assert table.loc[runtimes.NAIVE, "times_naive"] == 1
    is_float = ~table.index.str.contains("bfloat16")
    assert (table["largest_difference"][is_float] < 0.05).all()


@pytest.mark.usefixtures("calls_here")
def test_training_speed(tmp_path: Path) -> None:
    tiny(speed, tmp_path, "--sides 32 --batch=4 --images=8 --seconds=0.01 --repeats=1")
    table = results.latest(tmp_path, "training_speed").set_index("method")
    assert set(table.index) == {speed.OURS, speed.CEILING}
    assert (table["images_per_s"] > 0).all()


def test_without_a_gpu_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    tiny(gpu, tmp_path, "")
    assert "Not measured" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
