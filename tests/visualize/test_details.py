"""Precision-recall curves and the confusion matrix for few and for very many classes."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import sparse

from anchordetr.metrics import STATISTICS, Details, Metrics
from anchordetr.visualize.details import plot_details
from anchordetr.visualize.figure import label, new_figure
from anchordetr.visualize.plots import plot_history
from anchordetr.visualize.report import plot_report

pytest.importorskip("matplotlib")
NAMES = ["$a_b$ $", "道路", "_hidden", "\x1b[2J\n", "x" * 10_000, "[/b]", "\udcff", ""]


def details_of(classes: int) -> Details:
    """An evaluation in which each class is confused with the next one, the last ones most often."""
    index = np.arange(classes)
    rows, columns = np.concatenate([index, index]), np.concatenate([index, (index + 1) % classes])
    counts = np.concatenate([np.full(classes, 10_000), index + 1])
    matrix = sparse.coo_array((counts, (rows, columns)), shape=(classes + 1, classes + 1)).tocsr()
    return Details(np.linspace(1, 0, 101)[:, None] * np.linspace(1, 0, classes), 0.37, lambda: matrix, list)


def names_of(classes: int) -> list[str]:
    return [*NAMES[:classes], *(f"class number {number}" for number in range(classes - len(NAMES)))]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", [1, 2, 80, 10_000])
def test_figures_of_any_number_of_classes_are_small(classes: int, tmp_path: Path) -> None:
    files = plot_details(details_of(classes), names_of(classes), tmp_path)
    assert [file.name for file in files] == ["precision_recall.png", "confusion_matrix.png"]
    for file in files:
        with Image.open(file) as image:
            assert max(image.size) <= 2000


def test_classes_without_objects_have_no_curve(tmp_path: Path) -> None:
    details = Details(np.full((101, 3), -1.0), 0.5, details_of(3).confusion, list)
    assert len(plot_details(details, names_of(3), tmp_path)) == 2


def test_of_many_classes_the_most_confused_are_drawn_and_the_others_summed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = []
    monkeypatch.setattr("anchordetr.visualize.details.save", lambda figure, path: figures.append(figure))
    plot_details(details_of(1000), [f"c{number}" for number in range(1000)], tmp_path)
    axes = figures[1].axes[0]
    shown = [text.get_text() for text in axes.get_xticklabels()]
    assert shown == [*(f"c{number}" for number in range(960, 1000)), "other classes", "nothing"]
    assert axes.get_title() == "detections at threshold 0.37\n40 of 1000 classes, those confused most often"
    shares = axes.images[0].get_array()
    assert shares.shape == (42, 42)
    assert shares[0, 1] == pytest.approx(961 / 10_961)
    assert shares[39, 39] == pytest.approx(10_000 / 11_000)
    assert shares[39, 40] == pytest.approx(1000 / 11_000)
    assert shares[40, 0] == pytest.approx(960 / (960 * 10_000 + sum(range(1, 961))))
    legend = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert len(legend) == 21
    assert legend[0] == "0.50 c0"
    assert "c500" not in " ".join(legend)


def test_the_total_loss_has_an_axis_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    monkeypatch.setattr("anchordetr.visualize.plots.save", lambda figure, path: figures.append(figure))
    losses = {"loss_total": 20.0, "loss_class": 0.5, "loss_box": 0.1, "loss_giou": 0.7}
    plot_history([{"epoch": 1, **losses}, {"epoch": 2, **losses, "ap": 0.1, "ap50": 0.2, "ap75": 0.0}], tmp_path)
    drawn = {
        axes.get_title(): [(list(line.get_xdata()), line.get_ydata()[0]) for line in axes.lines]
        for axes in figures[0].axes
    }
    assert drawn == {
        "loss (sum over all layers)": [([1, 2], 20.0)],
        "losses of the last layer": [([1, 2], 0.5), ([1, 2], 0.1), ([1, 2], 0.7)],
        "AP": [([2], 0.1), ([2], 0.2), ([2], 0.0)],
    }


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cat", "cat"),
        ("price in $ or $", r"price in \$ or \$"),
        ("道路", "class 7"),
        ("a\nb", r"a\nb"),
        ("\udcff", r"\udcff"),
        ("x" * 100, "x" * 23 + "…"),
    ],
)
def test_labels(name: str, shown: str) -> None:
    assert label(name, 7) == shown


def test_a_figure_that_fails_is_a_warning_and_the_others_are_drawn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> sparse.csr_array:
        raise MemoryError

    metrics = Metrics(
        **dict.fromkeys(STATISTICS, 0.5),
        per_class=dict.fromkeys("abc", 0.5),
        details=Details(details_of(3).precision, 0.5, fail, list),
    )

    class Sample:
        def plot(self, path: Path) -> None:
            raise ValueError("no image\nat all.")

    with caplog.at_level(logging.WARNING, "anchordetr"):
        figures = plot_report(tmp_path, [Sample()], [{"epoch": 1}], metrics)  # type: ignore[list-item]
    assert figures == {"samples": [], "curves": [tmp_path / "precision_recall.png"]}
    assert [record.getMessage().removeprefix(f"{tmp_path}/") for record in caplog.records] == [
        "sample_0.jpg was not drawn: ValueError: no image.",
        "curves.png was not drawn: KeyError: 'loss_total'.",
        "confusion_matrix.png was not drawn: MemoryError.",
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["precision_recall.png"]


@pytest.mark.parametrize(("error", "words"), [(ImportError(), "pip install"), (RuntimeError("no fonts"), "no fonts")])
def test_without_a_working_matplotlib_the_report_has_no_curves(
    error: Exception, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "matplotlib.figure":
                raise error

    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    metrics = Metrics(**dict.fromkeys(STATISTICS, 0.5), per_class={"a": 0.5}, details=details_of(1))
    with caplog.at_level(logging.WARNING, "anchordetr"):
        assert plot_report(tmp_path, [], [], metrics) == {"samples": [], "curves": []}
    assert len(caplog.records) == 3
    assert all(words in record.getMessage() for record in caplog.records)


def test_figures_are_bounded() -> None:
    assert max(new_figure(1e6, 1e6).get_size_inches()) == 20
