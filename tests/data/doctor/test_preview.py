"""The preview page of annotated samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from anchordetr.data.doctor.preview import chosen_rows, sample_page
from anchordetr.data.doctor.report import examine

Changed = Callable[..., Path]
Content = dict[str, Any]


def test_the_page_shows_boxes(changed: Changed) -> None:
    page = sample_page(examine(changed(lambda content: None)).splits)
    without = sample_page(examine(changed(lambda content: content["annotations"].clear())).splits)
    assert page is not None
    assert without is not None
    assert page.size == without.size
    assert page.width > page.height > 320
    drawn = (np.asarray(page) != np.asarray(without)).any(axis=2)
    assert 0.005 < drawn.mean() < 0.2


def test_images_with_findings_come_first(changed: Changed) -> None:
    def change(content: Content) -> None:
        last = content["images"][3]["id"]
        next(a for a in content["annotations"] if a["image_id"] == last)["bbox"][0] = -5

    val = examine(changed(change)).splits[1]
    assert chosen_rows(val, 3) == [3, 0, 2]


def test_no_page_without_images(changed: Changed) -> None:
    folder = changed(lambda content: None)
    for file in folder.rglob("*.png"):
        file.write_bytes(b"")
    assert sample_page(examine(folder).splits) is None
