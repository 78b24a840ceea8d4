"""Every benchmark runs at a tiny size; figures are not looked at, only that they are there."""

import importlib
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import (
    bench_encode,
    bench_gpu,
    bench_image_matrix,
    bench_index,
    bench_large,
    bench_mips,
    bench_photos,
    bench_pipeline,
    bench_ray,
    bench_serve,
    bench_store,
    bench_training_speed,
    extrapolate,
    growth_plot,
    processes,
    profile_stages,
    results,
    stages,
)
from retrieval.model import runtime


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run commands in this process, which saves starting an interpreter for each."""

    def run(command: Sequence[str], threads: int, folder: Path = processes.ROOT) -> processes.Usage:
        words = list(command[1:])
        if words[0] == "-m":
            words.pop(0)
        name = words[0].removesuffix(".py")
        start = time.perf_counter()
        try:
            assert importlib.import_module(name).main(words[1:]) == 0
        except SystemExit as end:
            assert end.code == 0
        return processes.Usage(time.perf_counter() - start, 0.0, 1_000_000, "")

    monkeypatch.setattr(processes, "run", run)


@pytest.fixture
def calls_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call functions in this process, which saves starting an interpreter for each."""

    usage = processes.Usage(1.0, 1.0, 10**6, "")

    def call(function: Callable[..., Any], threads: int, /, **arguments: Any) -> tuple[Any, Any]:
        return function(**arguments), usage

    monkeypatch.setattr(processes, "call", call)


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
    tiny(bench_photos, tmp_path, f"--network=timm/test_resnet {sizes} --repeats=1")
    table = results.latest(tmp_path, "photos").set_index("method")
    assert list(table.index) == ["decoding alone", "encoding alone", "photos to embeddings"]
    assert (table["images_per_s"] > 0).all()


@pytest.mark.skipif(not os.environ.get("TEST_BENCH_RAY"), reason="TEST_BENCH_RAY=1: a minute")
def test_ray(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    sizes = "--width=96 --height=64 --side=32 --images=8 --batch=4 --shards=2"
    tiny(bench_ray, tmp_path, f"--network=timm/test_resnet {sizes} --repeats=1")
    table = results.latest(tmp_path, "ray").set_index("engine")
    assert list(table.index) == ["local", "ray"]
    assert table["same_bytes"].tolist() == ["yes", "yes"]


@pytest.mark.usefixtures("here")
def test_image_matrix(tmp_path: Path) -> None:
    tiny(bench_image_matrix, tmp_path, "--photos 480x320 --scale=0.005 --repeats=1 --images 20")
    table = results.latest(tmp_path, "image_matrix").set_index("method")
    assert set(table.index) == set(bench_image_matrix.METHODS)
    assert (table["images_per_s"] > 0).all()
    assert (table["PSNR_dB"].dropna() > 30).all()
    memory = results.latest(tmp_path, "image_matrix_memory")
    assert memory["last_row_is_right"].tolist() == ["yes"]


@pytest.mark.usefixtures("here")
def test_index(tmp_path: Path) -> None:
    tiny(bench_index, tmp_path, "--labels=0.002 --splits 0.02 --repeats=1")
    table = results.latest(tmp_path, "index")
    assert table["images"].tolist() == [273, 1355]
    assert table["wrong"].tolist() == [0, 0]


@pytest.mark.usefixtures("here")
def test_mips(tmp_path: Path) -> None:
    tiny(bench_mips, tmp_path, "--rows 300 --n_query=20 --dim=16 --k=3 --repeats=1")
    table = results.latest(tmp_path, "mips").set_index("method")
    assert set(table.index) == set(bench_mips.METHODS)
    assert (table["ids_as_in_float64"].dropna() == 1).all()


@pytest.mark.usefixtures("here")
def test_large(tmp_path: Path) -> None:
    tiny(bench_large, tmp_path, "--rows 400 800 --n_query=20 --dim=32")
    table = results.latest(tmp_path, "large").set_index(["stage", "rows"])
    assert table.loc[("mips", 400), "work"] > 0.8 * 400 * 20  # some classes may be minor
    assert (table["peak_MB"] > 0).all()


def test_store(tmp_path: Path) -> None:
    path = tmp_path / "embeddings.npy"
    np.save(path, np.random.default_rng(0).standard_normal((300, 12), dtype=np.float32))
    options = f"--rows 2000 --dim 16 --queries 3 --k 5 --embeddings {path}"
    tiny(bench_store, tmp_path, f"{options} --probes 20 --refine 10")
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
        bench_serve,
        tmp_path,
        f"{served} --rows 200 --clients 1 3 --seconds 1 --memory_requests 9 --memory_seconds 1",
    )
    table = results.latest(tmp_path, "serve")
    assert table["clients"].tolist() == [1, 3] and not table["refused"].any()
    assert (table["ms_p50"] <= table["ms_p95"]).all() and (table["requests"] > 0).all()
    assert (results.latest(tmp_path, "serve_memory")["rss_MB"] > 50).all()


def test_memory_follows_the_images_where_it_grows() -> None:
    rows = pd.DataFrame({"items": [100, 1100], "peak_MB": [50.0, 60.0]})
    assert extrapolate.memory(rows, rows.iloc[1], 2100) == pytest.approx(70e6)
    assert extrapolate.memory(rows, rows.iloc[1], 600) == pytest.approx(55e6)
    assert extrapolate.memory(rows, rows.iloc[1], 5) == 50e6
    flat = rows.assign(peak_MB=[50.0, 51.0])
    assert extrapolate.memory(flat, flat.iloc[1], 10**9) == 51e6


@pytest.mark.usefixtures("here")
def test_pipeline_and_extrapolation(tmp_path: Path) -> None:
    output = tmp_path / "results"
    (tmp_path / "README.md").write_text("<!-- extrapolation -->\n<!-- end -->\n")
    small = "--photos=14 --side=32 --repeats=1 --stages data_info image_matrix make_train_valid"
    tiny(bench_pipeline, output, f"--sizes 10 --full=10 {small} --samples={tmp_path}")
    table = results.latest(output, "pipeline").set_index("stage")
    assert table.loc["image_matrix", "work"] == 28
    assert (table["written_MB"] > 0).all()
    tiny(extrapolate, output, "")
    costs = pd.read_csv(output / "extrapolation.csv").set_index(["scale", "stage"])
    tuples = table.loc["make_train_valid", "work"]
    assert costs.loc[("1 billion", "make_train_valid"), "work"] == pytest.approx(
        1e9 * tuples / 28, rel=1e-3
    )
    assert "| all |" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("stage", stages.stages(stages.Settings()), ids=lambda stage: stage.name)
def test_commands_of_the_stages_parse(stage: stages.Stage) -> None:
    words = stage.command(Path("x"))[1:]
    name = words.pop(0).removesuffix(".py")
    name = words.pop(0) if name == "-m" else name
    importlib.import_module(name).make_parser().parse_args(words)


@pytest.mark.usefixtures("calls_here")
def test_encode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(runtime.START, "onnxruntime")  # a start takes seconds
    monkeypatch.setattr(runtime, "fastest", lambda model, _: ("torch", model.eval()))
    small = "--quick --networks resnet18 --side=32 --batches 2 --images=4 --seconds=0.01"
    tiny(bench_encode, tmp_path, f"{small} --threads=1")
    table = results.latest(tmp_path, "encode").set_index("method")
    assert {bench_encode.NAIVE, bench_encode.OURS, "torch folded"} <= set(table.index)
    assert (table["images_per_s"] > 0).all()
    assert table.loc[bench_encode.NAIVE, "times_naive"] == 1
    is_float = ~table.index.str.contains("bfloat16")
    assert (table["largest_difference"][is_float] < 0.05).all()


@pytest.mark.usefixtures("calls_here")
def test_training_speed(tmp_path: Path) -> None:
    tiny(
        bench_training_speed, tmp_path, "--sides 32 --batch=4 --images=8 --seconds=0.01 --repeats=1"
    )
    table = results.latest(tmp_path, "training_speed").set_index("method")
    assert set(table.index) == {bench_training_speed.OURS, bench_training_speed.CEILING}
    assert (table["images_per_s"] > 0).all()


def test_without_a_gpu_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    tiny(bench_gpu, tmp_path, "")
    assert "Not measured" in capsys.readouterr().out
    assert "Not measured" in (tmp_path / "gpu.md").read_text()


def test_profiles(tmp_path: Path, tree: Path) -> None:
    if not Path(sys.executable).with_name("py-spy").exists():
        pytest.skip("py-spy is not installed beside this python")
    stage = next(s for s in stages.stages(stages.Settings()) if s.name == "data_info")
    found = profile_stages.profile(stage, tree, threads=1)
    assert found["imports"] > 0


def test_a_place_is_the_innermost_function_of_ours_with_the_library_call() -> None:
    root = processes.ROOT
    run, load = f"run ({root}/process_data/mips.py:30)", f"load ({root}/retrieval/data/files.py:9)"
    assert profile_stages.place([run, load]) == "retrieval/data/files.py load"
    assert profile_stages.place([run, "read (numpy/x.py:1)"]) == "process_data/mips.py run: read"
    frozen = "_find_and_load (<frozen importlib._bootstrap>:1176)"
    assert profile_stages.place([run, frozen, load]) == "imports"


def test_growth_is_drawn_and_its_exponent_fitted(tmp_path: Path) -> None:
    images = np.array([100, 1000, 10_000])
    rows = [
        {
            "images": int(n),
            "stage": name,
            "start_seconds": 1.0,
            "seconds": 1 + n / 1000,
            "peak_MB": 50.0,
            "written_MB": n / 1000,
        }
        for name in growth_plot.STAGES
        for n in images
    ]
    assert growth_plot.draw(pd.DataFrame(rows), tmp_path / "growth.png").stat().st_size > 10_000
    lines = bench_pipeline.growth(rows)
    assert [line["exponent"] for line in lines] == [1.0] * len(growth_plot.STAGES)
    assert bench_pipeline.exponent([10, 100], [0.001, 0.002]) is None


def test_extrapolation_by_hand() -> None:
    row = {"stage": "image_matrix", "unit": "images", "cores": 2, "start_seconds": 1.0}
    row |= {"seconds": 3.0, "written_MB": 4.0, "queries": 10}
    sizes = {"work": 50, "items": 50, "peak_MB": 10.0}, {"work": 100, "items": 100, "peak_MB": 20.0}
    samples = pd.DataFrame([row | size for size in sizes])
    chosen = samples.tail(1).set_index("stage", drop=False)
    scale = extrapolate.Scale("x", database=1000, queries=5)
    (cost,) = extrapolate.costs(chosen, samples, scale, tuples=7, price=0.5)
    assert cost.seconds == 1 + 2 * 10
    assert cost.disk_bytes == 40e6
    assert cost.peak_bytes == pytest.approx(200e6)  # 0.2 MB an image
    assert cost.money == pytest.approx(21 / 3600 * 2 * 0.5)
    others = {"train": "tuples", "build_image_db": "images", "mips": "comparisons"}
    more = pd.concat([samples.assign(stage=name, unit=unit) for name, unit in others.items()])
    chosen = more[more["work"] == 100].set_index("stage", drop=False)
    train, encode, mips = extrapolate.costs(chosen, more, scale, tuples=200, price=0.5)
    assert encode == replace(cost, stage="build_image_db")
    # Twice the tuples, then all images are embedded and kept.
    assert train.seconds == 1 + 2 * 2 + encode.seconds
    assert train.peak_bytes == cost.peak_bytes + encode.disk_bytes
    assert train.disk_bytes == 4e6
    assert mips.disk_bytes == 2e6  # half as many queries
