"""The Pascal VOC layout: ``Annotations/*.xml``, ``JPEGImages/`` and image lists in ``ImageSets/Main/``.

Images and annotations may also be together in one folder, or in one folder for each split.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from anchordetr.data.findings import Finding
from anchordetr.data.layouts.base import FolderDataset, choose_split
from anchordetr.data.layouts.raw import UNKNOWN_SIZE, RawSplit
from anchordetr.data.layouts.records import LabelledBox, LabelledImage, raw_split
from anchordetr.data.layouts.voc_files import (
    LISTS,
    VocImages,
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
            return "no Annotations/*.xml, and no XML files beside images"
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
        images = match_images(part.images, {key: item.file_name for key, item in annotations.items()})
        listed, unknown = _keys(part, annotations, images)
        require_listed(part.source, unknown)
        keys = list(dict.fromkeys(listed))
        same_folder = [other for other in parts.values() if other.annotations == part.annotations]
        unlisted = annotations.keys() - {key for other in same_folder for key in _keys(other, annotations, images)[0]}
        orphans = [f"{key}.xml" for key in sorted(unlisted.difference(images.names))]
        left_out = sorted(images.names[key] for key in unlisted.intersection(images.names))
        own = [annotations[key] for key in keys]
        everywhere = (annotation for folder in of_folders.values() for annotation in folder.values())
        class_names = sorted({item.class_name for annotation in everywhere for item in annotation.objects})
        ids = {name: position for position, name in enumerate(class_names, start=1)}
        noticed = {
            "difficult objects, treated as crowds": sum(item.difficult for each in own for item in each.objects),
            "images that are listed several times, used once": len(listed) - len(keys),
            "annotations with another image's <filename>, which is not used": len({*keys}.intersection(images.renamed)),
            "annotations with a <size> that no image has, read from the image": sum(item.bad_size for item in own),
            "annotated images that are in no list": len(left_out) if part.list_file else 0,
        }
        return raw_split(
            part.source,
            part.images,
            {number: name for name, number in ids.items()},
            [_labelled(images.name(key), annotation, ids) for key, annotation in zip(keys, own, strict=True)],
            [f"{what}: {count}." for what, count in noticed.items() if count],
            [
                Finding("orphan_labels", orphans),
                Finding("unread_format", [] if part.list_file else left_out),
                *images.findings,
            ],
        )


def _annotations(folder: Path) -> dict[str, VocAnnotation]:
    return {key: read_annotation(xml, f"{key}.xml") for key, xml in annotation_files(folder).items()}


def _keys(part: VocPart, annotations: Collection[str], images: VocImages) -> tuple[list[str], list[str]]:
    """Return the annotations of a split, and the lines of its list that name none.

    Without a list, they are those whose image is there in a format that is read.
    """
    if part.list_file is not None:
        return listed_keys(part.list_file, annotations)
    return [key for key in annotations if key in images.names and is_read(images.names[key])], []


def _labelled(file_name: str, annotation: VocAnnotation, ids: Mapping[str, int]) -> LabelledImage:
    """Return the record of an image; the size of one in a format that is not read is unknown."""
    boxes = [LabelledBox(ids[item.class_name], item.box, item.name, item.difficult) for item in annotation.objects]
    return LabelledImage(file_name, boxes, annotation.size if is_read(file_name) else UNKNOWN_SIZE)
