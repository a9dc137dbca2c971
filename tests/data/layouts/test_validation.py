"""Invalid annotations: refused with names, or repaired with a count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anchordetr.data.layouts.opening import open_dataset
from anchordetr.errors import InputError

Changed = Callable[..., Path]


def test_all_missing_images_are_listed(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        for number, image in enumerate(content["images"][:3]):
            image["file_name"] = f"lost_{number}.png"

    with pytest.raises(InputError, match=r"missing.*: 3 \(lost_0\.png, lost_1\.png, lost_2\.png\).*Restore"):
        open_dataset(changed(change), "val")


def test_duplicate_image_ids_are_refused_and_listed(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content["images"][2]["id"] = content["images"][1]["id"]

    message = r"image ids.*: 2 \(shapes_val_00001\.png \(id 2\), shapes_val_00002\.png \(id 2\)\)"
    with pytest.raises(InputError, match=message):
        open_dataset(changed(change), "val")


def test_duplicate_annotation_ids_are_refused_and_listed(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        for annotation in content["annotations"][:3]:
            annotation["id"] = 5

    with pytest.raises(InputError, match=r"annotation ids.*: \d \(annotation 5, annotation 5"):
        open_dataset(changed(change), "val")


def test_unknown_categories_are_named(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0]["category_id"] = 99

    with pytest.raises(InputError, match=r"not listed: 1 \(annotation 1 has category 99\)"):
        open_dataset(changed(change), "val")


def test_annotations_of_unlisted_images_are_counted(changed: Changed, caplog: pytest.LogCaptureFixture) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0]["image_id"] = 1234

    before = len(open_dataset(changed(lambda content: None), "val").annotations.labels)
    dataset = open_dataset(changed(change), "val")
    assert len(dataset.annotations.labels) == before - 1
    assert "not listed, left out: 1 (annotation 1)" in caplog.text


def test_boxes_without_area_are_dropped_with_their_ids(changed: Changed, caplog: pytest.LogCaptureFixture) -> None:
    def change(content: dict[str, Any]) -> None:
        for annotation, box in zip(content["annotations"], ([5, 5, 0, 9], [5, 5, 9, -4], [70, 70, 5, 5]), strict=False):
            annotation["bbox"] = box

    before = len(open_dataset(changed(lambda content: None), "val").annotations.labels)
    dataset = open_dataset(changed(change), "val")
    assert len(dataset.annotations.labels) == before - 3
    assert "dropped: 3 (annotation 1, annotation 2, annotation 3)" in caplog.text
    assert (dataset.annotations.boxes[:, 2:] > 0).all()


def test_boxes_beyond_the_image_are_clipped_and_counted(changed: Changed, caplog: pytest.LogCaptureFixture) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0]["bbox"] = [60, -10, 20, 30]

    dataset = open_dataset(changed(change), "val")
    assert dataset.annotations.boxes[0].tolist() == [60, 0, 4, 20]
    assert "clipped: 1 (annotation 1)" in caplog.text


@pytest.mark.parametrize(
    "box", [[1, 2, float("nan"), 4], [1, 2, float("inf"), 4], [1, 2, 3], None, "box", [1, 2, 3, "wide"]], ids=str
)
def test_boxes_without_four_finite_numbers_are_named(box: object, changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][1]["bbox"] = box

    with pytest.raises(InputError, match=r"bbox.*finite numbers: 1 \(annotation 2\)"):
        open_dataset(changed(change), "val")


def test_boxes_in_xyxy_format_give_a_warning(changed: Changed, caplog: pytest.LogCaptureFixture) -> None:
    def change(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            x, y, w, h = annotation["bbox"]
            annotation["bbox"] = [x, y, x + w, y + h]

    def half_outside(content: dict[str, Any]) -> None:
        for annotation in content["annotations"][::2]:
            annotation["bbox"] = [50, 50, 30, 30]

    folder = changed(lambda content: None)
    whole = (folder / "annotations" / "instances_val.json").read_text()
    open_dataset(changed(half_outside), "val")
    assert "clipped" in caplog.text
    assert "x1, y1, x2, y2" not in caplog.text
    (folder / "annotations" / "instances_val.json").write_text(whole)
    open_dataset(changed(change), "val")
    assert "x1, y1, x2, y2" in caplog.text
    assert "box format" in caplog.text
