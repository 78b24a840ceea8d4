"""The report: true to the records, well-formed, self-contained, the same each time."""

import importlib
import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from process_data import baselines, mips, nns, report, transform
from retrieval.data import layout, provenance
from retrieval.data.command_lines import search_command
from retrieval.data.formats import InputError
from retrieval.evaluation.pipeline import RankingOptions
from retrieval.report import commands, confusion, figures, page, retrieval_results, runs
from tests.conftest import replace_embeddings
from tests.pages import read_page

EMBEDDINGS = ("database.npy", "tdatabase.npy")
RERANKED = RankingOptions(rerank_kr=20, kr_k1=10)
EVIL = '<script>alert("$x_1$")</script>'


def load(data_dir: Path, names: list[str] | None = None) -> dict[str, runs.Run]:
    found = runs.load_runs(data_dir, names)
    return {run.name: run for run in found}


def test_the_page_stands_alone_and_has_all_runs(pipeline: Path) -> None:
    baselines.run(pipeline, k=5)
    path = report.run(pipeline, rows=2, k=3)
    found = read_page(path)
    assert path.stat().st_size < 10_000_000
    for name in ("mips-valid", "mips-test", "pixels-test", "histogram-test"):
        assert name in found.text
    # Two runs whose rankings are known, two best and two worst queries, three results each.
    heat_maps = found.count["image"]
    assert found.count["img"] == 2 * (2 + 2) * (1 + 3)
    assert heat_maps == 2 * 2  # each with its color bar
    record = layout.METRICS.load(pipeline)
    assert f"{record['map@k']:.3f}" in found.text
    assert "python -m process_data.mips --dpath=... " in found.text
    assert "python train.py --dpath=... " in found.text
    assert "the ranking is not kept" in found.text


def test_equal_inputs_give_equal_bytes(pipeline: Path) -> None:
    first = report.run(pipeline).read_bytes()
    assert report.run(pipeline).read_bytes() == first


def test_names_from_outside_are_escaped(pipeline: Path) -> None:
    table = layout.CLASS_NAMES.load(pipeline)
    # A make's name is what all its classes begin with: spoil one make and a class of another.
    makes = layout.CAR_FRONT.load(pipeline).drop_duplicates("Class").set_index("Class")["CarMake"]
    is_of_first = table["Class"].map(makes) == makes.iloc[0]
    table.loc[is_of_first, "ClassName"] = [f"{EVIL} {i}" for i in range(is_of_first.sum())]
    layout.CLASS_NAMES.save(pipeline, table)
    path = report.run(pipeline, title=EVIL)
    found = read_page(path)  # has one script, its own
    assert EVIL in found.text
    assert EVIL not in path.read_text(encoding="utf-8")


def test_runs_can_be_chosen_and_must_exist(pipeline: Path) -> None:
    path = report.run(pipeline, runs=["mips-valid"])
    assert "mips-test" not in read_page(path).text
    with pytest.raises(InputError, match=r"no evaluation is called x; there are: .*mips-test"):
        report.run(pipeline, runs=["x"])
    with pytest.raises(InputError, match="--rows and --k must be at least 1"):
        report.run(pipeline, rows=0)


def test_curves_agree_with_the_metrics(pipeline: Path) -> None:
    for run in load(pipeline).values():
        assert run.results is not None and run.relevant_ranks is not None
        depths, found = run.cmc(20)
        np.testing.assert_array_equal(depths, np.arange(1, 21))
        for k in (1, 5, 10):
            assert found[k - 1] == pytest.approx(run.record[f"cmc@{k}"])
        shallow = runs.Run(run.name, run.record, run.results)
        np.testing.assert_allclose(shallow.cmc(20)[1], found[: shallow.k])
        levels, precision = run.precision_recall() or (np.empty(0), np.empty(0))
        slow = np.zeros(101)
        for ranks in run.relevant_ranks:
            points = [((i + 1) / len(ranks), (i + 1) / rank) for i, rank in enumerate(ranks)]
            slow += [max(p for r, p in points if r >= level - 1e-9) for level in levels]
        np.testing.assert_allclose(precision, slow / len(run.relevant_ranks))


def test_the_last_approximate_ranking_is_shown_as_far_as_it_is_known(pipeline: Path) -> None:
    nns.run(pipeline, dimension=4, k=5)
    run = load(pipeline)["nns-test"]
    assert run.results is not None and run.relevant_ranks is None
    assert run.precision_recall() is None
    assert len(run.cmc(100)[0]) == 5
    other = load(pipeline)["mips-test"]  # no longer the last, searched again
    assert other.results is not None and other.relevant_ranks is not None
    assert read_page(report.run(pipeline, rows=1, k=2)).count["section"] == 7


def test_refined_and_transformed_searches_are_done_again(pipeline: Path) -> None:
    transform.run(pipeline, dim=8)
    named = {"database": "database_t.npy", "test_matrix": "tdatabase_t.npy"}
    mips.run(pipeline, k=5, run_name="other", ranking=RankingOptions(qe=2, dba=2), **named)  # type: ignore[arg-type]
    mips.run(pipeline, k=5, run_name="reranked", is_valid=True, ranking=RERANKED)
    nns.run(pipeline, k=5, dimension=4, run_name="codes", **named)  # type: ignore[arg-type]
    found = load(pipeline)
    assert found["other-test"].relevant_ranks is not None
    assert found["reranked-valid"].results is None
    assert found["codes-test"].results is not None and found["codes-test"].relevant_ranks is None
    assert [found[n].record["stage"] for n in ("other-test", "codes-test")] == [
        "mips",
        "nns",
    ]
    text = read_page(report.run(pipeline, rows=1, k=2)).text
    assert "python -m process_data.transform --dpath=... --database=database.npy" in text
    assert "--database=database_t.npy --run=other --qe=2" in text


def test_a_ranking_that_does_not_give_its_metrics_is_not_shown(pipeline: Path) -> None:
    database = np.array(layout.DATABASE.load(pipeline))
    replace_embeddings(pipeline, np.roll(database, 3, axis=0))
    run = load(pipeline)["mips-valid"]
    assert run.results is None
    assert "does not reproduce the recorded metrics" in run.note
    assert "does not reproduce the recorded metrics" in read_page(report.run(pipeline)).text


def test_makes_are_named_by_what_their_classes_share(pipeline: Path) -> None:
    table = layout.CAR_FRONT.load(pipeline)[["CarMake", "Class"]].drop_duplicates()
    makes = confusion.load_makes(pipeline, retrieval_results.load_class_names(pipeline))
    assert set(makes) == set(table["Class"])
    assert len(set(makes.values())) == table["CarMake"].nunique()
    layout.CAR_FRONT.at(pipeline).unlink()
    assert confusion.load_makes(pipeline, {}) == {}
    assert "by class" in read_page(report.run(pipeline, runs=["mips-valid"])).text


def test_intervals_and_versions_are_shown_where_they_are_recorded(pipeline: Path) -> None:
    for name in ("mips-test", "mips-valid"):
        path = pipeline / "evaluations" / f"{name}.json"
        record = json.loads(path.read_text())
        record["intervals"] = {"cmc@1": [0.123, 0.987], "map@R": [0.111, 0.222]}
        record["versions"] = {"numpy": "1.2.3"}
        path.write_text(json.dumps(record))
    found = read_page(report.run(pipeline))
    assert "0.123–0.987" in found.text
    assert "numpy 1.2.3" in found.text
    assert "map@R, with its 95% interval" in found.text


def test_pictures_are_those_of_the_database_that_was_searched(pipeline: Path) -> None:
    images = np.array(layout.IMAGE_MATRIX.load(pipeline))
    layout.IMAGE_MATRIX.save(pipeline, 255 - images, "negative.npy")
    layout.DATABASE.save(pipeline, np.array(layout.DATABASE.load(pipeline)), "d.npy")
    record = layout.DATABASE_RECORD.load(pipeline)
    layout.DATABASE_RECORD.save(pipeline, record | {"images": "negative.npy"}, "d.json")
    mips.run(pipeline, k=5, database="d.npy", run_name="d")
    # Nothing takes database.npy any more.
    layout.DATABASE.at(pipeline).unlink()
    found = load(pipeline, ["d-test"])["d-test"]
    record = layout.METRICS.load(pipeline)
    for results in (found.results, retrieval_results.load_last_results(pipeline, record)):
        assert results is not None
        np.testing.assert_array_equal(results.gallery_images, 255 - images)
    text = read_page(report.run(pipeline, runs=["d-test"])).text
    assert "--database=d.npy" in text
    assert "--output=database.npy" not in text


def test_baselines_are_of_images(pipeline: Path) -> None:
    (record, _) = baselines.run(pipeline, k=5)
    assert set(record["inputs"]) == {
        "imageset.npy", "test_image.npy", "test_masked.npy", "mask2.npy", "model_num.json",
    }  # fmt: skip
    assert record["stage"] == "baselines"
    text = read_page(report.run(pipeline, runs=["pixels-test"])).text
    assert "build_image_db" not in text
    assert "macro" in text


def test_files_of_one_name_in_two_folders_are_told_apart(pipeline: Path) -> None:
    (pipeline / "other").mkdir()
    queries = np.array(layout.TEST_MASKED.load(pipeline))
    layout.TEST_MASKED.save(pipeline, queries[2:], "other/database.npy")
    mips.run(pipeline, k=5, to_test="other/database.npy")
    inputs = layout.METRICS.load(pipeline)["inputs"]
    assert inputs["database.npy"] != inputs["other/database.npy"]


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package"))
    assert set(provenance.versions()) == {"python", "numpy", "processor"}


def test_every_command_parses(pipeline: Path) -> None:
    baselines.run(pipeline, k=5, is_valid=True)
    transform.run(pipeline, dim=8)
    mips.run(pipeline, k=5, run_name="other", ranking=RankingOptions(qe=2))
    lines = [search_command(run.record) for run in load(pipeline).values()]
    lines += commands.model_commands(pipeline, [*EMBEDDINGS, "tdatabase_t.npy"])
    assert len(lines) == 5 + 4
    for line in lines:
        words = shlex.split(line)
        name = words[2] if words[1] == "-m" else words[1].removesuffix(".py")
        parsed = (
            importlib.import_module(name).make_parser().parse_args(words[2 + (words[1] == "-m") :])
        )
        if name.endswith("mips"):
            assert parsed.k == 5
            assert parsed.is_valid == ("mips" in line and "--isValid=1" in line)


def test_commands_leave_out_a_checkpoint_that_has_changed(pipeline: Path) -> None:
    path = pipeline / "para" / "model.ep0"
    for name in ("database.json", "tdatabase.json"):
        record = layout.DATABASE_RECORD.load(pipeline, name)
        layout.DATABASE_RECORD.save(pipeline, record | {"checkpoint": str(path)}, name)
    assert f"--save_path={path.parent} " in commands.model_commands(pipeline, EMBEDDINGS)[0]
    path.write_bytes(b"another")
    lines = commands.model_commands(pipeline, EMBEDDINGS)
    assert [line.split()[1] for line in lines] == ["build_image_db.py"] * 2


def test_a_page_that_is_too_large_is_refused(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match="ask for fewer pictures"):
        report.run(pipeline)
    assert not layout.REPORT.at(pipeline).exists()


def test_figures_with_strange_names_are_whole() -> None:
    names = [EVIL, "丰田Avalon", "$\\frac", "x" * 80]
    plot = figures.heat_map(np.eye(4), names, [1, 2, 3, 4], "strange")
    assert plot.startswith("<svg") and plot.rstrip().endswith("</svg>")
    assert "<script>" not in plot
    assert plot == figures.heat_map(np.eye(4), names, [1, 2, 3, 4], "strange")
    line = {"a & b": (np.array([0.0, 1.0]), np.array([1.0, 0.5]))}
    assert "a &amp; b" in figures.curves(line, "recall", "precision", "curve")
