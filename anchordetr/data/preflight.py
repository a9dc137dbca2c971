"""Checks of the data before training starts, from annotations and image headers only."""

from __future__ import annotations

import logging
import os

import numpy as np

from anchordetr.data.dataset import AnnotationTable, DetectionDataset
from anchordetr.data.findings import Finding
from anchordetr.data.layouts.base import FolderDataset
from anchordetr.data.layouts.image_scan import read_sizes
from anchordetr.data.layouts.validation import duplicate_rows
from anchordetr.errors import InputError

log = logging.getLogger("anchordetr")


def preflight(train_set: DetectionDataset, val_set: DetectionDataset, num_queries: int) -> None:
    """Check both splits before training; problems that may harm the result are counted in warnings.

    Args:
        num_queries: Q of the model, the largest number of objects per image that it can detect.

    Raises:
        InputError: images cannot be read, or their size differs from the annotated one; the message lists them.
    """
    for dataset in (train_set, val_set):
        if isinstance(dataset, FolderDataset):
            _check_headers(dataset)
    table = train_set.annotations
    findings = [
        Finding("too_many_objects", crowded_images(table, num_queries)),
        Finding("duplicate_box", duplicate_boxes(table)),
        Finding("class_without_boxes", _classes_without_boxes(train_set)),
        Finding("shared_image", _shared_files(train_set, val_set)),
    ]
    for finding in findings:
        if finding.names:
            log.warning("%s", finding.sentence(getattr(train_set, "source", "train")))


def crowded_images(table: AnnotationTable, num_queries: int) -> list[str]:
    """Return the images with more objects than queries, without counting crowds."""
    counts = np.bincount(table.rows()[~table.crowd], minlength=len(table))
    return [f"{table.file_names[row]} ({counts[row]} objects)" for row in np.flatnonzero(counts > num_queries)]


def duplicate_boxes(table: AnnotationTable) -> list[str]:
    """Return the image of each duplicate box: same class and same coordinates, rounded to pixels."""
    rows = table.rows()
    return [table.file_names[rows[box]] for box in duplicate_rows(rows, table.labels, table.boxes)]


def _classes_without_boxes(dataset: DetectionDataset) -> list[str]:
    counts = np.bincount(dataset.annotations.labels, minlength=len(dataset.class_names))
    return [dataset.class_names[label] for label in np.flatnonzero(counts == 0)]


def _shared_files(train_set: DetectionDataset, val_set: DetectionDataset) -> list[str]:
    if not (isinstance(train_set, FolderDataset) and isinstance(val_set, FolderDataset)):
        return []
    return sorted(_files(train_set) & _files(val_set))


def _files(dataset: FolderDataset) -> set[str]:
    return {os.path.normpath(dataset.file(index)) for index in range(len(dataset))}


def _check_headers(dataset: FolderDataset) -> None:
    names = dataset.annotations.file_names
    found = read_sizes([dataset.file(index) for index in range(len(dataset))])
    unreadable = np.flatnonzero((found == 0).any(axis=1))
    wrong = np.setdiff1d(np.flatnonzero((found != dataset.annotations.sizes).any(axis=1)), unreadable)
    if len(unreadable):
        raise InputError(Finding("unreadable_image", [names[row] for row in unreadable]).sentence(dataset.source))
    if len(wrong):
        sizes = dataset.annotations.sizes
        listed = [f"{names[i]}: {found[i, 1]}x{found[i, 0]}, not {sizes[i, 1]}x{sizes[i, 0]}" for i in wrong]
        raise InputError(Finding("wrong_size", listed).sentence(dataset.source))
