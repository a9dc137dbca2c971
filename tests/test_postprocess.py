"""From predictions to detections."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from anchordetr import Detections, Detector
from anchordetr.config import Config
from anchordetr.postprocess import postprocess
from anchordetr.types import Predictions


@pytest.mark.parametrize(("top_k", "expected"), [(5, 5), (12, 12), (1000, 12)])
def test_no_more_detections_than_queries_times_classes(top_k: int, expected: int) -> None:
    predictions = Predictions(torch.randn(1, 2, 4, 3), torch.rand(1, 2, 4, 4), torch.rand(2, 4, 2), num_anchors=4)
    for found in postprocess(predictions, [(10, 20), (30, 40)], top_k=top_k):
        assert len(found) == expected
        assert len({(*box, label) for box, label in zip(found.xyxy.tolist(), found.class_id, strict=False)}) == expected


def test_of_some_classes_as_many_are_returned_as_of_all() -> None:
    predictions = Predictions(torch.randn(1, 2, 4, 3), torch.rand(1, 2, 4, 4), torch.rand(2, 4, 2), num_anchors=4)
    sizes = [(10, 20), (30, 40)]
    for whole, found in zip(postprocess(predictions, sizes), postprocess(predictions, sizes, 5, [2, 0]), strict=True):
        expected = whole[whole.class_id != 1][:5]
        assert len(found) == 5
        for name in ("xyxy", "confidence", "class_id", "anchor_xy", "pattern_id"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_names_in_any_script_are_drawn_saved_and_loaded(small_config: Config, tmp_path: Path) -> None:
    names = ["猫", "Ærø ü", "🚲"]
    image = np.zeros((60, 80, 3), np.uint8)
    Detector(small_config, names, device="cpu").save_pretrained(tmp_path / "modèle")
    detector = Detector.from_pretrained(tmp_path / "modèle", device="cpu")
    assert detector.class_names == names
    found = detector.predict(image, threshold=0.0)
    assert isinstance(found, Detections)
    assert set(found.data["class_name"]) == set(names)
    found.plot(tmp_path / "図.png")
    assert (tmp_path / "図.png").stat().st_size > 100
    json.dumps(found.to_coco(image_id=1))
