"""Images in, detections out, over any backend; networks prepared once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from anchordetr.data.transforms import eval_transform
from anchordetr.detections import Detections
from anchordetr.errors import InputError
from anchordetr.models.builders import create_model
from anchordetr.optimize.budget import Budget
from anchordetr.optimize.prepared import PreparedCopy
from anchordetr.predictor import Predictor


class WholeImages:
    """A backend that finds one object as large as the image, and another one with a low score."""

    def __init__(self) -> None:
        self.calls: list[list[tuple[int, int]]] = []

    def __call__(self, images: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        assert all(image.shape[0] == 3 and image.is_floating_point() for image in images)
        self.calls.append(list(sizes))
        return [self.detections(*size) for size in sizes]

    def detections(self, height: int, width: int) -> Detections:
        xyxy = np.array([[0, 0, width, height], [1, 1, 2, 2]], np.float32)
        anchors = np.zeros((2, 2), np.float32)
        return Detections(xyxy, np.array([0.9, 0.2], np.float32), np.array([1, 0]), anchors, np.zeros(2, np.int64))


@pytest.fixture
def predictor() -> Predictor:
    transform = eval_transform(48, 96, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return Predictor(WholeImages(), transform, ["cat", "dog"], [4, 8])


def image(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 127, np.uint8)


def test_detections_are_named_and_cut_at_the_threshold(predictor: Predictor) -> None:
    found = predictor.predict(image(30, 40))
    assert isinstance(found, Detections)
    assert found.xyxy.tolist() == [[0, 0, 40, 30]]
    assert (found.data["class_name"].tolist(), found.data["category_id"].tolist()) == (["dog"], [8])
    assert found.image is not None
    assert found.image.shape == (30, 40, 3)
    assert found.source is None
    low = predictor.predict(image(30, 40), threshold=0.1)
    assert isinstance(low, Detections)
    assert low.data["class_name"].tolist() == ["dog", "cat"]
    for threshold, count in ((0.9, 1), (0.91, 0)):
        assert len(predictor.predict(image(30, 40), threshold=threshold)) == count


def test_a_few_images_are_in_memory_at_a_time(predictor: Predictor) -> None:
    images = [image(20, 20 + index) for index in range(19)]
    found = predictor.predict(images)
    assert [detections.xyxy[0, 2] for detections in found] == [20 + index for index in range(19)]
    assert isinstance(predictor.backend, WholeImages)
    assert [len(call) for call in predictor.backend.calls] == [8, 8, 3]


def test_broken_images_are_named_or_left_out(
    predictor: Predictor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(image(20, 30)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    files = [tmp_path / "b.png", tmp_path / "a.png"]
    with pytest.raises(InputError, match=r"b\.png"):
        predictor.predict(files)
    (found,) = predictor.predict_each(files, skip_broken=True)
    assert found.source == str(tmp_path / "a.png")
    assert "b.png" in caplog.text


def test_a_network_is_prepared_once_for_each_budget_until_its_weights_change() -> None:
    model = create_model("anchordetr_tiny", num_classes=2, pretrained_backbone=False).eval()
    prepared = PreparedCopy()
    whole, part = prepared.of(model), prepared.of(model, Budget(layers=1))
    assert prepared.of(model) is whole is not part
    assert prepared.of(model, Budget(layers=1)) is part
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    assert prepared.of(model) is not whole
    again = prepared.of(model)
    assert prepared.of(model, Budget(layers=1)) is not part
    next(model.buffers()).add_(1.0)
    assert prepared.of(model) is not again
    again = prepared.of(model)
    weights = next(model.parameters())
    weights.data = weights.data.clone()  # as model.to(device) does
    assert prepared.of(model) is not again
    again = prepared.of(model)
    prepared.drop()
    assert prepared.of(model) is not again


def test_a_network_built_in_inference_mode_is_prepared() -> None:
    with torch.inference_mode():
        model = create_model("anchordetr_tiny", num_classes=3, pretrained_backbone=False).eval()
    assert not PreparedCopy().of(model).training
