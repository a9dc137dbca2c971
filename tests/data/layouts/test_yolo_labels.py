"""Label files of the YOLO layout: what a line holds is known, or the data set is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anchordetr.data.layouts.raw import RawSplit
from anchordetr.data.layouts.yolo import YoloDataset
from anchordetr.errors import InputError
from tests.data.layouts.test_yolo_images import write_image


def read(folder: Path, lines: str, settings: str = "") -> RawSplit:
    """Return a split of one image of 100 x 50 pixels."""
    write_image(folder / "images" / "x.png")
    (folder / "labels").mkdir()
    (folder / "labels" / "x.txt").write_text(lines)
    (folder / "data.yaml").write_text(f"val: images\nnames: [a, b]\n{settings}\n")
    return YoloDataset.read(folder, "val")


BOX, AROUND = "0.5 0.5 0.4 0.4", [30, 15, 40, 20]
ROTATED = "0 0.5 0.2 0.8 0.5 0.5 0.8 0.2 0.5"
POLYGON = "0 0.1 0.1 0.5 0.1 0.5 0.5 0.3 0.7 0.1 0.5"
POSE = f"0 {BOX} 0.4 0.4 2 0.6 0.6 1 0.9 0.1 0 0 0 0"


@pytest.mark.parametrize(("keypoints", "shape"), [("0.4 0.4 2 0.6 0.6 1 0 0 0", "[3, 3]"), ("40 90 10 nan", "[2, 2]")])
def test_the_box_of_a_pose_is_used_and_its_keypoints_are_not(keypoints: str, shape: str, tmp_path: Path) -> None:
    split = read(tmp_path, f"1 {BOX} {keypoints}\n0 {BOX}\n", f"kpt_shape: {shape}")
    np.testing.assert_allclose(split.boxes, [AROUND] * 2)
    assert split.notes == ("keypoints are not used; their objects' boxes are.",)


def test_oriented_boxes_are_upright_ones_with_a_note(tmp_path: Path) -> None:
    split = read(tmp_path, ROTATED, "task: obb")
    np.testing.assert_allclose(split.boxes, [[20, 10, 60, 30]])
    assert "upright boxes around them" in split.notes[0]


@pytest.mark.parametrize(
    "lines",
    [ROTATED, POSE, f"0 {BOX} 0.4 0.4 0.6 0.6 0.45 0.5", POLYGON + ("\n" + POLYGON) * 9],
    ids=["oriented", "pose of 3", "pose of 2", "always five points"],
)
def test_labels_that_may_be_no_polygons_are_refused(lines: str, tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"data\.yaml does not say what .*x\.txt line 1 .*task: segment.*kpt_shape",
    ):
        read(tmp_path, lines)


def test_a_task_settles_what_the_labels_are(tmp_path: Path) -> None:
    split = read(tmp_path, POLYGON + ("\n" + POLYGON) * 9, "task: segment")
    np.testing.assert_allclose(split.boxes, [[10, 5, 40, 30]] * 10)


@pytest.mark.parametrize(
    "lines",
    [
        POLYGON,
        f"{POLYGON}\n{ROTATED}",
        f"{ROTATED}\n0 {BOX}",
        "0 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6",
        "0 0.3 0.3 0.5 0.4 0.4 0.5 0.3 0.3",
    ],
    ids=["one", "several lengths", "beside boxes", "upright rectangle", "closed"],
)
def test_polygons_are_read_without_a_task(lines: str, tmp_path: Path) -> None:
    assert np.isfinite(read(tmp_path, lines).boxes).all()


@pytest.mark.parametrize(
    ("line", "settings", "message"),
    [
        (f"0 {BOX} 0.9", "", "got 6 values.*confidence"),
        ("0 " + "0.5 " * 55, "", "got 56 values.*'kpt_shape'"),
        (f"0 {BOX} 0.4 0.4", "kpt_shape: [2, 2]", "expected 5 or 9 values for the task 'pose'.*got 7"),
        (POLYGON, "task: obb", "expected 5 or 9 values for the task 'obb'"),
        ("0", "", "got 1 values"),
        ("0 0.5 0_5 0.1 0.1", "", "a class id and numbers"),
        ("٣ 0.5 0.5 0.1 0.1", "", "a class id and numbers"),
        ("0 0.5 0.5 0.1 0.٣", "", "a class id and numbers"),
        (f"0.5 {BOX}", "", "a class id and numbers"),
        (f"{'9' * 5000} {BOX}", "", "a class id and numbers"),
        ("0 0.5 -inf 0.1 0.1", "", "not pixels; got -inf"),
    ],
)
def test_lines_of_another_format_are_named(line: str, settings: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"x\.txt line 2: .*{message}"):
        read(tmp_path, f"\n{line}\n", settings)


def test_a_class_id_may_be_a_whole_float(tmp_path: Path) -> None:
    assert read(tmp_path, f"1.0 {BOX}\n0. {BOX}\n").box_categories.tolist() == [1, 0]


@pytest.mark.parametrize("position", range(6))
def test_a_polygon_with_nan_is_no_box(position: int, tmp_path: Path) -> None:
    numbers = ["0.1", "0.2", "0.5", "0.2", "0.3", "0.6"]
    numbers[position] = "nan"
    assert np.isnan(read(tmp_path, "0 " + " ".join(numbers), "task: segment").boxes).all()
