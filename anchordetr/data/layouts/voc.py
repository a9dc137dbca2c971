"""The Pascal VOC layout: ``Annotations/*.xml``, ``JPEGImages/`` and image lists in ``ImageSets/Main/``.

Images and annotations may also be together in one folder, or in one folder for each split.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anchordetr.data.findings import Finding
from anchordetr.data.layouts.base import FolderDataset, choose_split
from anchordetr.data.layouts.image_scan import read_sizes
from anchordetr.data.layouts.raw import NO_ID, UNKNOWN_SIZE, RawSplit
from anchordetr.data.layouts.voc_files import (
    LISTS,
    VocPart,
    annotation_files,
    find_parts,
    is_read,
    listed_keys,
    match_images,
    require_listed,
)
from anchordetr.data.layouts.voc_xml import VocAnnotation, read_annotation
from anchordetr.registry import DATA_LAYOUTS


@DATA_LAYOUTS.register("voc")
class VocDataset(FolderDataset):
    """A data set in Pascal VOC's layout; its classes are all names in the annotations, sorted, with ids 1, 2, ...

    Corners are 1-based and inclusive, as in VOC. Difficult objects are treated as crowds: they are not targets in
    training, and evaluation ignores them. Image ids are 1, 2, ... in the order of the list. An annotation's image is
    the one of its own name; ``<filename>`` counts where there is none.
    """

    @staticmethod
    def missing(path: Path) -> str | None:
        """Return what ``path`` lacks to be a data set of this layout, or None."""
        if not annotation_files(path / "Annotations"):
            return "no Annotations/*.xml"
        return None if any(part.list_file for part in find_parts(path).values()) else f"no {LISTS}/train.txt"

    @classmethod
    def splits(cls, path: Path) -> dict[str, VocPart]:
        """Return the files of each split."""
        return find_parts(path)

    @classmethod
    def read(cls, path: Path, split: str) -> RawSplit:
        """Return the raw annotations of a split.

        Raises:
            InputError: the split or an annotation is missing, or a file is damaged; the message names it.
        """
        parts = cls.splits(path)
        part = choose_split(path, split, parts)
        of_folders = {folder: _annotations(folder) for folder in {other.annotations for other in parts.values()}}
        annotations = of_folders[part.annotations]
        listed = _keys(part, annotations)
        keys = list(dict.fromkeys(listed))
        images = match_images(part.images, {key: item.file_name for key, item in annotations.items()})
        same_folder = [other for other in parts.values() if other.annotations == part.annotations]
        unlisted = annotations.keys() - {key for other in same_folder for key in _found_keys(other, annotations)[0]}
        file_names = [images.name(key) for key in keys]
        own = [annotations[key] for key in keys]
        objects = [(row, item) for row, annotation in enumerate(own) for item in annotation.objects]
        everywhere = (annotation for folder in of_folders.values() for annotation in folder.values())
        class_names = sorted({item.class_name for annotation in everywhere for item in annotation.objects})
        ids = {name: position for position, name in enumerate(class_names, start=1)}
        noticed = {
            "difficult objects, treated as crowds": sum(item.difficult for _, item in objects),
            "images that are listed several times, used once": len(listed) - len(keys),
            "annotations with another image's <filename>, which is not used": len({*keys}.intersection(images.renamed)),
            "annotations with a <size> that no image has, read from the image": sum(item.bad_size for item in own),
            "annotated images that are in no list": len(unlisted.intersection(images.names)),
        }
        return RawSplit(
            source=part.source,
            root=part.images,
            class_names=class_names,
            category_ids=list(ids.values()),
            image_ids=np.arange(1, len(keys) + 1),
            file_names=file_names,
            sizes=_sizes(own, [part.images / name for name in file_names]),
            box_ids=np.full(len(objects), NO_ID),
            box_names=[item.name for _, item in objects],
            box_image_ids=np.array([row + 1 for row, _ in objects], dtype=np.int64),
            boxes=np.array([item.box for _, item in objects], dtype=np.float64).reshape(-1, 4),
            box_categories=np.array([ids[item.class_name] for _, item in objects], dtype=np.int64),
            areas=np.full(len(objects), np.nan),
            crowd=np.array([item.difficult for _, item in objects], dtype=np.bool_),
            notes=tuple(f"{what}: {count}." for what, count in noticed.items() if count),
            findings=(
                Finding("orphan_labels", [f"{key}.xml" for key in sorted(unlisted.difference(images.names))]),
                *images.findings,
            ),
        )


def _annotations(folder: Path) -> dict[str, VocAnnotation]:
    return {key: read_annotation(xml, f"{key}.xml") for key, xml in annotation_files(folder).items()}


def _found_keys(part: VocPart, annotations: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the annotations of a split, and the lines of its list that name none."""
    return ([*annotations], []) if part.list_file is None else listed_keys(part.list_file, annotations)


def _keys(part: VocPart, annotations: Collection[str]) -> list[str]:
    """Return the annotations of a split.

    Raises:
        InputError: its list names some that do not exist.
    """
    listed, unknown = _found_keys(part, annotations)
    require_listed(part.source, unknown)
    return listed


def _sizes(annotations: Sequence[VocAnnotation], files: Sequence[Path]) -> NDArray[np.int64]:
    """Return height and width of each image, (I, 2), from the image's header where the annotation has none."""
    given = [item.size if is_read(file.name) else UNKNOWN_SIZE for item, file in zip(annotations, files, strict=True)]
    sizes = np.array(given, dtype=np.int64).reshape(-1, 2)
    unknown = np.flatnonzero((sizes <= 0).any(axis=1)).tolist()
    sizes[unknown] = read_sizes([files[row] for row in unknown])
    return sizes
