"""The YOLO layout: ``data.yaml`` with classes and image folders, and ``labels/*.txt`` beside ``images/``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from anchordetr.data.findings import Finding
from anchordetr.data.layouts.base import FolderDataset, choose_split
from anchordetr.data.layouts.image_scan import read_sizes
from anchordetr.data.layouts.raw import RawSplit
from anchordetr.data.layouts.records import LabelledBox, LabelledImage, raw_split
from anchordetr.data.layouts.yolo_images import find_images, label_file, relative_name
from anchordetr.data.layouts.yolo_labels import Label, check_format, read_labels
from anchordetr.data.layouts.yolo_places import find_settings, settings_file
from anchordetr.errors import InputError
from anchordetr.registry import DATA_LAYOUTS

_NOTES = {
    "pose": "keypoints are not used; their objects' boxes are.",
    "obb": "oriented boxes are used as the upright boxes around them.",
}
_WITH_POINT = "class ids that are written as whole floats (0.0), read as integers: {}."


@DATA_LAYOUTS.register("yolo")
class YoloDataset(FolderDataset):
    """A data set in YOLO's layout with the class ids of ``data.yaml``.

    Without ``data.yaml``, a list of class names (``classes.txt``, ``obj.names``) and the folders say what it would. A
    label is ``class cx cy w h`` or a polygon ``class x1 y1 x2 y2 ...``, of which the bounding box is used, in
    fractions of the upright image. Labels of poses (``kpt_shape``) and oriented boxes (``task: obb``) are read too.
    An image without a label file has no objects. Image ids are 1, 2, ... in the order of the file names.
    """

    @staticmethod
    def missing(path: Path) -> str | None:
        """Return what ``path`` lacks to be a data set of this layout, or None."""
        return None if settings_file(path) else "no data.yaml, and no classes.txt beside labels"

    @classmethod
    def splits(cls, path: Path) -> dict[str, list[str]]:
        """Return the image folders or list files of each split."""
        settings = find_settings(path)
        return {} if settings is None else settings.splits

    @classmethod
    def read(cls, path: Path, split: str) -> RawSplit:
        """Return the raw annotations of a split.

        Raises:
            InputError: ``data.yaml``, a folder or a label file is missing or damaged, or the format of the labels is
                uncertain; the message names file and line.
        """
        settings = find_settings(path)
        if settings is None:
            raise InputError(f"{path} has neither data.yaml, nor a list of class names such as classes.txt and labels.")
        found = find_images(choose_split(path, split, settings.splits), settings)
        path = settings.folder
        images = found.files
        names = [relative_name(image, path) for image in images]
        files = [label_file(image, path) for image in images]
        labelled = [row for row, file in enumerate(files) if os.path.lexists(file)]
        if not labelled and any(os.path.isfile(image) for image in images):
            raise InputError(f"{path} has no label file for any image of '{split}'; expected {files[0]}.")
        labels = {row: list(read_labels(files[row], relative_name(files[row], path), settings)) for row in labelled}
        of_all = [label for own in labels.values() for label in own]
        check_format(of_all, settings)
        unlabelled = sorted(set(range(len(images))).difference(labelled))
        users = Counter(files[row] for row in labelled)
        shared = [names[row] for row in labelled if users[files[row]] > 1]
        notes = [
            *settings.notes,
            _NOTES.get(settings.task, ""),
            *found.notes,
            _WITH_POINT.format(with_point) if (with_point := sum(label.with_point for label in of_all)) else "",
        ]
        sizes = [(height, width) for height, width in read_sizes(images).tolist()]
        return raw_split(
            settings.file,
            path,
            settings.names,
            [_labelled(name, labels.get(row, []), sizes[row]) for row, name in enumerate(names)],
            [note for note in notes if note],
            [
                Finding("unlabelled_image", [names[row] for row in unlabelled]),
                Finding("shared_labels", shared),
                *found.findings,
            ],
        )


def _labelled(file_name: str, labels: Sequence[Label], size: tuple[int, int]) -> LabelledImage:
    boxes = [LabelledBox(label.category, label.in_pixels(size), label.name) for label in labels]
    return LabelledImage(file_name, boxes, size)
