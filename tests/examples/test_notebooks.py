"""The notebooks run from beginning to end, with small budgets; what is stored is of large ones."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

FOLDER = Path(__file__).parents[2] / "examples/notebooks"
BUDGETS = {
    "1_air": "STEPS, TRAIN_IMAGES, TEST_IMAGES, SAMPLES = 3, 200, 40, 5",
    "2_estimators": "WARM_UP, DRAWS, STEPS, IMAGES = 2, 3, 2, 200",
    "3_your_own_parts": "STEPS, IMAGES = 2, 200",
    "4_sqair": "PARTICLES, VIDEOS, FRAMES = 3, 1, 8",
    "5_trackers": "STEPS, FRAMES, VIDEOS, READING, GLANCE, LOOKING = 3, 6, 8, 2, 2, 2",
}
"""Written over the cell of a notebook that is tagged `parameters`."""


NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def read(name: str):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def test_every_notebook_has_a_budget():
    assert set(NAMES) == set(BUDGETS)


# What jupyter's packages warn of is theirs.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = read(name)
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source = BUDGETS[name]
    run = nbclient.NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}})
    run.execute()  # raises what a cell raises


@pytest.mark.parametrize("name", NAMES)
def test_stored_outputs_are_there_and_small(name: str):
    notebook = read(name)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" for output in outputs)
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 600_000
