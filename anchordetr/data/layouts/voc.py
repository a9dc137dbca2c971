"""The Pascal VOC layout: ``Annotations/*.xml``, ``JPEGImages/`` and image lists in ``ImageSets/Main/``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anchordetr.data.findings import Finding
from anchordetr.data.layouts.base import FolderDataset, choose_split
from anchordetr.data.layouts.image_scan import read_sizes
from anchordetr.data.layouts.raw import NO_ID, UNKNOWN_SIZE, RawSplit
from anchordetr.data.layouts.voc_files import annotation_files, is_read, listed_keys, match_images, require_listed
from anchordetr.data.layouts.voc_xml import VocAnnotation, read_annotation
from anchordetr.registry import DATA_LAYOUTS

_SPLITS = ("train", "val", "test")
_LISTS = Path("ImageSets", "Main")


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
        return None if VocDataset.splits(path) else f"no {_LISTS}/train.txt"

    @classmethod
    def splits(cls, path: Path) -> dict[str, Path]:
        """Return the list file of each split."""
        files = {split: path / _LISTS / f"{split}.txt" for split in _SPLITS}
        return {split: file for split, file in files.items() if file.is_file()}

    @classmethod
    def read(cls, path: Path, split: str) -> RawSplit:
        """Return the raw annotations of a split.

        Raises:
            InputError: the split or an annotation is missing, or a file is damaged; the message names it.
        """
        lists = cls.splits(path)
        file = choose_split(path, split, lists)
        files = annotation_files(path / "Annotations")
        annotations = {key: read_annotation(xml, f"{key}.xml") for key, xml in files.items()}
        listed, unknown = listed_keys(file, annotations)
        require_listed(file, unknown)
        keys = list(dict.fromkeys(listed))
        images = match_images(path / "JPEGImages", {key: item.file_name for key, item in annotations.items()})
        unlisted = annotations.keys() - {key for other in lists.values() for key in listed_keys(other, annotations)[0]}
        file_names = [images.name(key) for key in keys]
        own = [annotations[key] for key in keys]
        objects = [(row, item) for row, annotation in enumerate(own) for item in annotation.objects]
        class_names = sorted({item.class_name for annotation in annotations.values() for item in annotation.objects})
        ids = {name: position for position, name in enumerate(class_names, start=1)}
        noticed = {
            "difficult objects, treated as crowds": sum(item.difficult for _, item in objects),
            "images that are listed several times, used once": len(listed) - len(keys),
            "annotations with another image's <filename>, which is not used": len({*keys}.intersection(images.renamed)),
            "annotations with a <size> that no image has, read from the image": sum(item.bad_size for item in own),
            "annotated images that are in no list": len(unlisted.intersection(images.names)),
        }
        return RawSplit(
            source=file,
            root=path / "JPEGImages",
            class_names=class_names,
            category_ids=list(ids.values()),
            image_ids=np.arange(1, len(keys) + 1),
            file_names=file_names,
            sizes=_sizes(own, [path / "JPEGImages" / name for name in file_names]),
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


def _sizes(annotations: Sequence[VocAnnotation], files: Sequence[Path]) -> NDArray[np.int64]:
    """Return height and width of each image, (I, 2), from the image's header where the annotation has none."""
    given = [item.size if is_read(file.name) else UNKNOWN_SIZE for item, file in zip(annotations, files, strict=True)]
    sizes = np.array(given, dtype=np.int64).reshape(-1, 2)
    unknown = np.flatnonzero((sizes <= 0).any(axis=1)).tolist()
    sizes[unknown] = read_sizes([files[row] for row in unknown])
    return sizes
