"""Runs notebooks with their full budgets, and stores them with their outputs.

    python docs/run_notebooks.py                    # all of them: some eight minutes of processor time
    python docs/run_notebooks.py 2_estimators

Progress bars and the times of cells, which differ from run to run, are not stored.
"""

import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "examples/notebooks"


def run(path: Path) -> None:
    """Execute the notebook at `path` in an empty folder, and write it back."""
    notebook = nbformat.read(path, as_version=4)
    before = _processor_time()
    with TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=None,
            kernel_name="python3",
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        )
        client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = list(_stored(cell.outputs))
    nbformat.write(notebook, path)
    print(f"{path.stem}: {_processor_time() - before:.0f} s of processor time")


def _stored(outputs: list[nbformat.NotebookNode]) -> Iterator[nbformat.NotebookNode]:
    for output in outputs:
        if output.output_type == "stream" and output.name == "stderr":
            continue
        if "data" in output:
            output.data.pop("image/jpeg", None)  # the same picture as the PNG
        yield output


def _processor_time() -> float:
    """Of the kernels that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    names = sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    for name in names:
        run(FOLDER / f"{name}.ipynb")
