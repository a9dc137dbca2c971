"""Precision-recall curves and confusion matrix of an evaluation, readable and small for any number of classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from anchordetr.metrics import Details
from anchordetr.visualize.figure import attempt, label, new_figure, save

_MOST_CURVES = 20
_MOST_CLASSES = 40
_MOST_COUNTS = 20


def plot_details(details: Details, class_names: Sequence[str], folder: Path) -> list[Path]:
    """Draw the precision-recall curves and the confusion matrix of an evaluation into a folder; return the files.

    A figure that cannot be drawn is left out with a warning.
    """
    curves = attempt(
        folder / "precision_recall.png", lambda path: plot_precision_recall(details.precision, class_names, path)
    )
    matrix = attempt(
        folder / "confusion_matrix.png",
        lambda path: plot_confusion(details.confusion(), class_names, details.threshold, path),
    )
    return [*curves, *matrix]


def plot_precision_recall(precision: NDArray[np.float64], class_names: Sequence[str], path: Path) -> None:
    """Draw precision by recall at an IoU of 0.5: the mean, and a curve for each of up to 20 classes.

    Of more classes, the ten with the highest and the ten with the lowest AP50 are drawn.

    Args:
        precision: (101, K), -1 where a class has no objects.

    Raises:
        InputError: matplotlib cannot be used.
    """
    figure = new_figure(8.5, 5)
    axes = figure.subplots()
    recall = np.linspace(0, 1, len(precision))
    known = np.flatnonzero((precision >= 0).all(axis=0))
    means = precision[:, known].mean(axis=0)
    shown = np.arange(len(known))
    if len(known) > _MOST_CURVES:
        shown = np.argsort(-means, kind="stable")
        shown = np.concatenate([shown[: _MOST_CURVES // 2], shown[-_MOST_CURVES // 2 :]])
        axes.set_title(f"the highest and the lowest AP50 of {len(known)} classes")
    for place, index in enumerate(shown):
        name = f"{means[index]:.2f} {label(class_names[known[index]], known[index])}"
        style = "-" if place < _MOST_CURVES // 2 else "--"
        axes.plot(recall, precision[:, known[index]], style, label=name)
    if len(known):
        axes.plot(recall, precision[:, known].mean(axis=1), "black", linewidth=2.5, label=f"{means.mean():.2f} mean")
        figure.legend(loc="outside right upper", fontsize="small")
    axes.set_xlabel("recall")
    axes.set_ylabel("precision at IoU 0.5")
    save(figure, path)


def plot_confusion(confusion: sparse.csr_array, class_names: Sequence[str], threshold: float, path: Path) -> None:
    """Draw a confusion matrix (K + 1, K + 1): rows are classes of objects, columns predicted classes.

    The last row has the detections without an object, the last column the objects without a detection. Of more than 40
    classes, those that are confused most often are drawn, and the others are summed.

    Args:
        confusion: the counts. class_names: of its K classes.
        threshold: lowest score of the detections, which the title says.
        path: of the file.

    Raises:
        InputError: matplotlib cannot be used.
    """
    names = [label(name, number) for number, name in enumerate(class_names)]
    matrix, chosen = _most_confused(confusion, len(names))
    others = [] if len(chosen) == len(names) else ["other classes"]
    shown = [*(names[number] for number in chosen), *others, "nothing"]
    side = max(4.0, 0.3 * len(matrix))
    figure = new_figure(side + 1, side)
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(shown)), shown, rotation=90)
    axes.set_yticks(range(len(shown)), shown)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("class of the object")
    title = f"detections at threshold {threshold:g}"
    axes.set_title(f"{title}\n{len(chosen)} of {len(names)} classes, those confused most often" if others else title)
    if len(shown) <= _MOST_COUNTS:
        for row, column in np.ndindex(*matrix.shape):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour)
    save(figure, path)


def _most_confused(confusion: sparse.csr_array, classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the matrix of up to 40 classes, of all others summed if there are any, and of nothing; and those classes.

    Chosen are the classes that are confused with other classes most often, then those with the most objects.
    """
    if classes <= _MOST_CLASSES:
        return confusion.toarray(), np.arange(classes)
    entries = confusion.tocoo()
    rows, columns = entries.row, entries.col
    wrong = (rows != columns) & (rows < classes) & (columns < classes)
    confused, objects = (
        np.bincount(np.concatenate(indices), np.concatenate(counts), minlength=classes + 1)[:classes]
        for indices, counts in (
            ((rows[wrong], columns[wrong]), (entries.data[wrong], entries.data[wrong])),
            ((rows,), (entries.data,)),
        )
    )
    chosen = np.sort(np.lexsort((-objects, -confused))[:_MOST_CLASSES])
    place = np.full(classes + 1, _MOST_CLASSES)
    place[chosen] = np.arange(_MOST_CLASSES)
    place[classes] = _MOST_CLASSES + 1
    matrix = np.zeros((_MOST_CLASSES + 2, _MOST_CLASSES + 2), np.int64)
    np.add.at(matrix, (place[rows], place[columns]), entries.data)
    return matrix, chosen
