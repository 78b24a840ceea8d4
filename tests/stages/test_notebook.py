"""The notebook runs on what the stages wrote, and is kept without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "dataset_diff.ipynb"


@pytest.mark.filterwarnings("ignore")  # of the kernel's machinery, not of the notebook
@pytest.mark.parametrize("is_valid", ["False", "True"])
def test_the_notebook_runs(pipeline: Path, monkeypatch: pytest.MonkeyPatch, is_valid: str) -> None:
    monkeypatch.setenv("DATA_DIR", str(pipeline))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    settings = notebook.cells[1]
    assert "is_valid = False" in settings.source
    settings.source = settings.source.replace("is_valid = False", f"is_valid = {is_valid}")
    client = NotebookClient(notebook, resources={"metadata": {"path": str(NOTEBOOK.parent)}})
    client.execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 4  # one query, the best, the worst, the plot


def test_the_notebook_is_kept_without_outputs_and_functions() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert "def " not in cell.source
