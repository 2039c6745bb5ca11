"""Runs the cells of train/experiment.ipynb in order, as Jupyter does, and stores what they print and draw.

python -m tests.notebook
"""

import ast
import base64
import contextlib
import hashlib
import io
import json
import tempfile
from pathlib import Path

from data.files import write_text
from evaluate.report.plots import figures
from evaluate.results import runs_of
from tests.evaluate.handmade import result_of, with_losses

NOTEBOOK = Path(__file__).resolve().parent.parent / "train" / "experiment.ipynb"


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run(notebook: dict, folder: Path) -> None:
    """Run the code cells in `folder`, which stands for the project's, and put the outputs into them."""
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "experiment.py").touch()  # by which the first cell knows the project
    names = {"__name__": "__main__"}
    with contextlib.chdir(folder):
        for number, cell in enumerate(code_cells(notebook), start=1):
            cell |= {"execution_count": number, "outputs": outputs("".join(cell["source"]), names, number)}


def outputs(source: str, names: dict, number: int) -> list[dict]:
    """What a cell prints, and the value of its last line: a picture if it has one, as Jupyter asks for it."""
    code, value = ast.parse(source), None
    last = ast.Expression(code.body.pop().value) if isinstance(code.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, f"cell {number}", "exec"), names)
        if last:
            value = eval(compile(last, f"cell {number}", "eval"), names)
    found = []
    if printed.getvalue():
        found.append({"name": "stdout", "output_type": "stream", "text": printed.getvalue().splitlines(keepends=True)})
    if value is not None:
        data = {"text/plain": [repr(value)]}
        if hasattr(value, "_repr_png_"):
            data = {"image/png": base64.b64encode(value._repr_png_()).decode(), "text/plain": ["<a figure>"]}
        found.append({"data": data, "execution_count": number, "metadata": {}, "output_type": "execute_result"})
    return found


def made_of(notebook: dict) -> dict[str, str]:
    """SHA-256 of the cells' code, and of what the figures of handmade runs show: words, data, colours. No pixels: each
    version of matplotlib has its own."""
    shown = []
    for file, figure in figures(runs_of([with_losses(result_of(lr), [4, 3.7, 3.8]) for lr in (1e-3, 1e-4)])).items():
        shown += [file, *map(str, figure.get_size_inches()), figure.get_suptitle(), figure.get_supxlabel()]
        for ax in figure.axes:
            texts = [ax.xaxis.label, ax.yaxis.label, ax.get_legend().get_title(), *ax.get_legend().texts, *ax.texts]
            shown += [text.get_text() for text in texts]
            shown += [f"{n:.3g}" for bar in ax.patches for n in (bar.get_x(), bar.get_height(), *bar.get_facecolor())]
            for line in ax.get_lines():
                shown += map(str, (line.get_label(), line.get_color(), line.get_linestyle(), line.get_marker()))
                shown += [f"{n:.3g}" for n in line.get_xydata().ravel()]
    cells = ["".join(cell["source"]) for cell in code_cells(notebook)]
    return {
        name: hashlib.sha256("\n".join(of).encode()).hexdigest() for name, of in (("cells", cells), ("drawn", shown))
    }


if __name__ == "__main__":
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        run(notebook, Path(folder))
    notebook["metadata"]["made_of"] = made_of(notebook)
    write_text(NOTEBOOK, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
