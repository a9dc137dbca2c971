"""Annotations with something wrong: refused with the names of what is wrong, or repaired with a count."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anchordetr.criterion import build_criterion
from anchordetr.data.layouts import open_dataset
from anchordetr.data.loader import TrainCollate, TrainSamples
from anchordetr.data.shapes import ShapesDataset
from anchordetr.data.transforms import ResizeShortSide, train_transform
from anchordetr.engine.evaluator import coco_metrics, coco_rows
from anchordetr.errors import InputError
from anchordetr.types import Predictions

Changed = Callable[..., Path]


def perfect_rows(dataset: Any, keep_crowds: bool = False) -> np.ndarray:
    rows = []
    for index in range(len(dataset)):
        record = dataset.annotations[index]
        wanted = slice(None) if keep_crowds else ~record.crowd
        xyxy = np.concatenate([record.boxes[:, :2], record.boxes[:, :2] + record.boxes[:, 2:]], axis=1)[wanted]
        rows.append(coco_rows(record.image_id, xyxy, np.ones(len(xyxy)), record.labels[wanted], dataset.category_ids))
    return np.concatenate(rows)


# ---------------------------------------------------------------------- files


def test_all_missing_images_are_listed_at_load(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        for number, image in enumerate(content["images"][:3]):
            image["file_name"] = f"lost_{number}.png"

    with pytest.raises(InputError, match=r"missing pictures: 3 \(lost_0\.png, lost_1\.png, lost_2\.png\)\. Restore"):
        open_dataset(changed(change), "val")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [}', r"not valid JSON: .*line 1 column 13"),
        ("[]", "must hold an object with 'images'"),
        ('{"images": []}', "no list 'annotations'"),
        ('{"annotations": [], "categories": []}', "no list 'images'"),
        ('{"images": [3], "annotations": [], "categories": []}', r"images\[0\] is '3'; expected an object"),
        (
            '{"images": [{"id": 5}], "annotations": [], "categories": []}',
            r"images\[0\] \(id 5\) needs a string as 'file_name'; got nothing",
        ),
        (
            '{"images": [{"id": "5", "file_name": "a"}], "annotations": [], "categories": []}',
            r"images\[0\] \(id 5\) needs an integer as 'id'; got '5'",
        ),
        (
            '{"images": [], "annotations": [{"id": 9, "image_id": 1}], "categories": []}',
            r"annotations\[0\] \(id 9\) needs an integer as 'category_id'; got nothing",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "category id 1 to several",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}',
            "category name 'a' to several",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 99999999999999999999, "name": "a"}]}',
            "does not fit into 64 bits",
        ),
    ],
)
def test_a_malformed_annotation_file_is_named_with_the_position(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val").mkdir()
    (tmp_path / "annotations" / "instances_val.json").write_text(text)
    with pytest.raises(InputError, match=rf"instances_val\.json.*{message}"):
        open_dataset(tmp_path, "val")


def test_info_and_sizes_may_be_missing(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content.pop("info")
        for image in content["images"]:
            del image["height"], image["width"]

    dataset = open_dataset(changed(change), "val")
    assert dataset.annotations.sizes.tolist() == [[64, 64]] * 4


def test_area_and_iscrowd_may_be_missing(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            del annotation["area"], annotation["iscrowd"]

    table = open_dataset(changed(change), "val").annotations
    np.testing.assert_allclose(table.areas, table.boxes[:, 2:].prod(axis=1))
    assert not table.crowd.any()


def test_a_byte_order_mark_and_unicode_names_are_read(coco_folder: Path, changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content["categories"][0]["name"] = "Ærøskøbing 円"
        content["images"][0]["file_name"] = "写真 ü.png"

    folder = changed(change)
    (folder / "val" / "shapes_val_00000.png").rename(folder / "val" / "写真 ü.png")
    file = folder / "annotations" / "instances_val.json"
    file.write_text(json.dumps(json.loads(file.read_text()), ensure_ascii=False), encoding="utf-8-sig")
    dataset = open_dataset(folder, "val")
    assert dataset.class_names[0] == "Ærøskøbing 円"
    assert dataset.annotations[0].file_name == "写真 ü.png"
    assert torch.equal(dataset.image(0), open_dataset(coco_folder, "val").image(0))


# ---------------------------------------------------------------------- ids


def test_duplicate_image_ids_are_refused_and_listed(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content["images"][2]["id"] = content["images"][1]["id"]

    message = (
        r"image ids given to several pictures: 2 \(shapes_val_00001\.png \(id 2\), shapes_val_00002\.png \(id 2\)\)"
    )
    with pytest.raises(InputError, match=message):
        open_dataset(changed(change), "val")


def test_duplicate_annotation_ids_are_refused_and_listed(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        for annotation in content["annotations"][:3]:
            annotation["id"] = 5

    with pytest.raises(InputError, match=r"annotation ids given several times: \d \(annotation 5, annotation 5"):
        open_dataset(changed(change), "val")


def test_the_annotation_id_zero_is_renumbered_and_counts(changed: Changed) -> None:
    """pycocotools takes a match with the id 0 for none: perfect detections would miss recall."""

    def change(content: dict[str, Any]) -> None:
        for number, annotation in enumerate(content["annotations"]):
            annotation["id"] = number

    dataset = open_dataset(changed(change), "val")
    assert min(annotation["id"] for annotation in dataset.ground_truth()["annotations"]) == 1
    assert coco_metrics(dataset, perfect_rows(dataset)).ar_100 == 1.0


def test_categories_with_gaps_are_remapped_and_inverted_on_output(coco_folder: Path) -> None:
    dataset = open_dataset(coco_folder, "val")
    assert set(np.unique(dataset.annotations.labels)) == {0, 1, 2}
    rows = perfect_rows(dataset)
    assert set(rows[:, 6]) == {3, 7, 20}
    assert coco_metrics(dataset, rows).ap == pytest.approx(1.0)


def test_unknown_categories_are_named(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0]["category_id"] = 99

    with pytest.raises(InputError, match=r"not listed: 1 \(annotation 1 has category 99\)"):
        open_dataset(changed(change), "val")


def test_annotations_of_unlisted_pictures_are_counted(changed: Changed, caplog: pytest.LogCaptureFixture) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0]["image_id"] = 1234

    before = len(open_dataset(changed(lambda content: None), "val").annotations.labels)
    dataset = open_dataset(changed(change), "val")
    assert len(dataset.annotations.labels) == before - 1
    assert "annotations of pictures that are not listed, left out: 1 (annotation 1)" in caplog.text


# ---------------------------------------------------------------------- boxes


def test_boxes_without_area_are_dropped_with_their_ids(changed: Changed, caplog: pytest.LogCaptureFixture) -> None:
    def change(content: dict[str, Any]) -> None:
        for annotation, box in zip(content["annotations"], ([5, 5, 0, 9], [5, 5, 9, -4], [70, 70, 5, 5]), strict=False):
            annotation["bbox"] = box

    before = len(open_dataset(changed(lambda content: None), "val").annotations.labels)
    dataset = open_dataset(changed(change), "val")
    assert len(dataset.annotations.labels) == before - 3
    assert "dropped: 3 (annotation 1, annotation 2, annotation 3)" in caplog.text
    assert (dataset.annotations.boxes[:, 2:] > 0).all()


def test_boxes_that_stick_out_are_clipped_and_counted(changed: Changed, caplog: pytest.LogCaptureFixture) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0]["bbox"] = [60, -10, 20, 30]

    dataset = open_dataset(changed(change), "val")
    assert dataset.annotations.boxes[0].tolist() == [60, 0, 4, 20]
    assert "clipped: 1 (annotation 1)" in caplog.text


@pytest.mark.parametrize(
    "box", [[1, 2, float("nan"), 4], [1, 2, float("inf"), 4], [1, 2, 3], None, "box", [1, 2, 3, "wide"]], ids=str
)
def test_boxes_that_are_no_four_numbers_are_named(box: object, changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][1]["bbox"] = box

    with pytest.raises(InputError, match=r"bbox is not four finite numbers: 1 \(annotation 2\)"):
        open_dataset(changed(change), "val")


def test_corners_given_as_width_and_height_are_warned_of(changed: Changed, caplog: pytest.LogCaptureFixture) -> None:
    def change(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            x, y, w, h = annotation["bbox"]
            annotation["bbox"] = [x, y, x + w, y + h]

    open_dataset(changed(lambda content: None), "val")
    assert "x1, y1, x2, y2" not in caplog.text
    open_dataset(changed(change), "val")
    assert "boxes that make sense as x1, y1, x2, y2 but not as x, y, width, height" in caplog.text
    assert "Check the box format" in caplog.text


# ---------------------------------------------------------------------- what training and evaluation make of them


def test_a_picture_without_annotations_is_a_negative(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 2]

    dataset = open_dataset(changed(change), "val")
    assert len(dataset) == 4
    image, target, image_id = TrainSamples(dataset, train_transform((48,), 96, True, ["horizontal"]), seed=0)[(0, 1)]
    assert image_id == 2
    assert target.boxes.shape == (0, 4)
    assert target.labels.dtype == torch.int64
    assert image.shape[0] == 3


def test_a_batch_of_negatives_has_a_finite_loss(changed: Changed) -> None:
    dataset = open_dataset(changed(lambda content: content["annotations"].clear()), "val")
    samples = TrainSamples(dataset, train_transform((48,), 96, True, ["horizontal"]), seed=0)
    batch = TrainCollate([0.5] * 3, [0.5] * 3)([samples[(0, index)] for index in range(4)])
    logits = torch.randn(2, 4, 5, 3)
    predictions = Predictions(logits, torch.rand(2, 4, 5, 4), torch.rand(4, 5, 2), num_anchors=5)
    losses = build_criterion(3)(predictions, batch.targets)
    assert torch.isfinite(losses.total)
    assert losses.terms["box"] == losses.terms["giou"] == 0


def test_crowds_are_no_targets() -> None:
    dataset = ShapesDataset("train", 1)
    dataset.annotations.crowd[0] = True
    _, target, _ = TrainSamples(dataset, ResizeShortSide([64], 96), seed=0)[(0, 0)]
    assert len(target.labels) == len(dataset.annotations[0].labels) - 1


def test_detections_inside_a_crowd_are_neither_right_nor_wrong(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            if annotation["image_id"] == 2:
                annotation |= {"iscrowd": 1, "category_id": 3}

    dataset = open_dataset(changed(change), "val")
    assert dataset.annotations.crowd.any()
    without, inside = perfect_rows(dataset), perfect_rows(dataset, keep_crowds=True)
    assert len(inside) > len(without)
    assert coco_metrics(dataset, inside) == coco_metrics(dataset, without)
    assert coco_metrics(dataset, inside).ap == pytest.approx(1.0)


@pytest.mark.parametrize("size", [(1, 300), (300, 1)])
def test_a_picture_of_one_pixel_width_keeps_its_sides(size: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train").mkdir()
    Image.new("RGB", size).save(tmp_path / "train" / "thin.png")
    content = {
        "images": [{"id": 1, "file_name": "thin.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, *size]}],
        "categories": [{"id": 1, "name": "line"}],
    }
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
    samples = TrainSamples(open_dataset(tmp_path, "train"), train_transform((32, 48), 96, True, ["horizontal"]), seed=0)
    for epoch in range(10):
        image, target, _ = samples[(epoch, 0)]
        assert min(image.shape) >= 1
        assert torch.isfinite(target.boxes).all()


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "I;16", "1"])
def test_training_and_prediction_read_the_same_pixels(mode: str, tmp_path: Path) -> None:
    from anchordetr.data.images import load_image

    (tmp_path / "annotations").mkdir()
    (tmp_path / "val").mkdir()
    values = np.random.default_rng(0).integers(0, 65536, (20, 30)).astype(np.uint16)
    picture = (
        Image.fromarray(values) if mode == "I;16" else Image.fromarray((values // 256).astype(np.uint8)).convert(mode)
    )
    exif = Image.Exif()
    exif[0x0112] = 8
    name = "x.jpg" if mode == "CMYK" else "x.png"
    picture.save(tmp_path / "val" / name, exif=exif)
    content = {"images": [{"id": 1, "file_name": name}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(content))
    dataset = open_dataset(tmp_path, "val")
    assert torch.equal(dataset.image(0), load_image(tmp_path / "val" / name))
    assert dataset.image(0).shape == (3, 30, 20)


def test_a_picture_of_another_size_than_annotated_is_refused(changed: Changed) -> None:
    def change(content: dict[str, Any]) -> None:
        content["images"][0] |= {"width": 128}

    dataset = open_dataset(changed(change), "val")
    with pytest.raises(InputError, match=r"shapes_val_00000\.png is 64x64 pixels upright, its annotations say 128x64"):
        dataset.image(0)
