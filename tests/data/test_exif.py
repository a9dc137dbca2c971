"""Annotations that were made before EXIF turned the image: refused, and turned by the doctor."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anchordetr.data.doctor.repair import Change, rotate_boxes, write_repaired
from anchordetr.data.doctor.report import examine
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.errors import InputError


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_turned_boxes_hold_what_they_held(orientation: int, tmp_path: Path) -> None:
    """A white rectangle on the image as stored must lie in the turned box of the upright image."""
    stored = np.zeros((40, 60, 3), dtype=np.uint8)
    stored[5:15, 8:30] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    for part in ("annotations", "val"):
        (tmp_path / "data" / part).mkdir(parents=True)
    Image.fromarray(stored).save(tmp_path / "data" / "val" / "x.png", exif=exif)
    content = {
        "images": [{"id": 1, "file_name": "x.png", "height": 40, "width": 60}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 5, 22, 10]}],
        "categories": [{"id": 1, "name": "white"}],
    }
    (tmp_path / "data" / "annotations" / "instances_val.json").write_text(json.dumps(content))
    dataset = open_dataset(tmp_path / "data", "val")
    with pytest.raises(InputError, match=r"is 40x60 pixels upright, .* say 60x40 \(turned by its EXIF orientation\)"):
        dataset.image(0)
    changes = write_repaired(examine(tmp_path / "data"), tmp_path / "fixed")
    assert changes == [Change("val", "x.png", "boxes turned from 60x40 to 40x60 pixels")]
    fixed = open_dataset(tmp_path / "fixed", "val")
    x, y, w, h = fixed.annotations.boxes[0].astype(int)
    image = fixed.image(0)
    assert (image[:, y : y + h, x : x + w] == 255).all()
    assert int((image[0] == 255).sum()) == w * h


def test_an_image_that_was_not_turned_keeps_its_boxes() -> None:
    boxes = np.array([[1.0, 2.0, 3.0, 4.0]])
    np.testing.assert_array_equal(rotate_boxes(boxes, 40, 60, orientation=1), boxes)
