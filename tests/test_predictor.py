"""Images in, detections out, over any backend; networks prepared once."""

from __future__ import annotations

import contextlib
import io
import itertools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.data.transforms import eval_transform
from anchordetr.detections import Detections
from anchordetr.errors import InputError, UsageError
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


def test_large_images_are_computed_one_by_one_unless_told_otherwise(tmp_path: Path) -> None:
    transform = eval_transform(600, 1000, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    images = [image(60, 100)] * 3
    for batch_size, calls in ((None, [1, 1, 1]), (2, [2, 1])):
        backend = WholeImages()
        list(Predictor(backend, transform, ["cat", "dog"], [4, 8], batch_size=batch_size).predict_each(images))
        assert [len(call) for call in backend.calls] == calls
    small = eval_transform(32, 64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    backend = WholeImages()
    list(Predictor(backend, small, ["cat", "dog"], [4, 8]).predict_each([image(3000, 4000), image(2, 2)]))
    assert [len(call) for call in backend.calls] == [1, 1]


def test_images_are_kept_of_a_single_source_and_on_request(predictor: Predictor, tmp_path: Path) -> None:
    Image.fromarray(image(20, 30)).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", image(20, 30)):
        found = predictor.predict(source)
        assert isinstance(found, Detections)
        assert found.image is not None
        assert found.size == (20, 30)
        without = predictor.predict(source, keep_images=False)
        assert isinstance(without, Detections)
        assert (without.image, without.size) == (None, (20, 30))
    for sources in (tmp_path, str(tmp_path / "*.png"), [image(20, 30)], iter([image(20, 30)])):
        (found,) = predictor.predict(sources)
        assert (found.image, found.size) == (None, (20, 30))
    (found,) = predictor.predict([image(20, 30)], keep_images=True)
    assert found.image is not None
    assert all(found.image is not None for found in predictor.predict_each(tmp_path))
    assert all(found.image is None for found in predictor.predict_each(tmp_path, keep_images=False))


def test_sources_of_every_kind(predictor: Predictor, tmp_path: Path) -> None:
    Image.fromarray(image(20, 30)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for source in (content, io.BytesIO(content), Image.fromarray(image(20, 30))):
        assert isinstance(predictor.predict(source), Detections)
        assert len(list(predictor.predict_each(source))) == 1
    for several in (tmp_path, f"{tmp_path}/*.png", [content] * 2, (image(20, 30) for _ in range(2))):
        assert {found.size for found in predictor.predict_each(several)} == {(20, 30)}
    assert isinstance(predictor.predict(image(20, 30) for _ in range(2)), list)
    for nothing in (None, 5, {"image": content}, object()):
        with pytest.raises(InputError, match="is no image; give a path"):
            predictor.predict(nothing)
        with pytest.raises(InputError, match="is no image; give a path"):
            list(predictor.predict_each([nothing]))


def test_a_generator_may_be_endless_and_use_its_buffer_again(predictor: Predictor) -> None:
    buffer = np.zeros((8, 8, 3), np.uint8)

    def frames() -> Iterator[np.ndarray]:
        for number in itertools.count():
            buffer[...] = number
            yield buffer

    with contextlib.closing(predictor.predict_each(frames())) as found:
        seen = [next(found).image for _ in range(20)]
    assert [int(pixels.max()) for pixels in seen if pixels is not None] == list(range(20))


def test_results_come_in_order_and_errors_name_the_file(
    predictor: Predictor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = [tmp_path / f"{number:02d}.png" for number in range(30)]
    for number, file in enumerate(files):
        Image.fromarray(image(10 + 40 * (number % 3), 10)).save(file)
    for broken in (files[7], files[20]):
        broken.write_bytes(b"no image")
    found = list(predictor.predict_each(files, skip_broken=True))
    assert [detections.source for detections in found] == [
        str(file) for file in files if file not in (files[7], files[20])
    ]
    assert [record.getMessage().split(" is not")[0] for record in caplog.records] == [
        f"Skipped: {files[7]}",
        f"Skipped: {files[20]}",
    ]
    with pytest.raises(InputError, match=r"07\.png is not an image"):
        list(predictor.predict_each(files))


def test_threads_end_when_the_results_are_no_longer_wanted(predictor: Predictor, tmp_path: Path) -> None:
    before = threading.active_count()
    for number in range(30):
        Image.fromarray(image(10, 10)).save(tmp_path / f"{number}.png")
    found = predictor.predict_each(tmp_path)
    next(found)
    assert threading.active_count() > before
    found.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        (50, "threshold is 50; it must be a score from 0 to 1"),
        (-0.1, "threshold is -0.1"),
        (float("nan"), "threshold is nan"),
        (True, "threshold is of type bool"),
        ("0.5", "threshold is of type str"),
        (np.array([True, False]), "threshold is of type ndarray"),
        ({"cat": 2}, "threshold of 'cat' is 2"),
        ({"cta": 0.5}, r"no class 'cta'.*Did you mean 'cat'"),
        ({7: 0.5}, "no class '7'"),
    ],
    ids=str,
)
def test_a_threshold_that_is_none_is_refused_before_anything_is_read(
    threshold: Any, message: str, predictor: Predictor
) -> None:
    with pytest.raises(UsageError, match=message):
        predictor.predict(image(20, 30), threshold)
    with pytest.raises(UsageError, match=message):
        predictor.predict_each([], threshold)


def test_thresholds_by_class_and_the_predictors_own() -> None:
    transform = eval_transform(48, 96, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    predictor = Predictor(WholeImages(), transform, ["cat", "dog"], [4, 8], threshold=0.95)
    for threshold, names in (
        (None, []),
        ({}, []),
        ({"cat": 0.1}, ["cat"]),
        ({"dog": np.float32(0.9)}, ["dog"]),
        ({"cat": 0.2, "dog": 0}, ["dog", "cat"]),
        (np.float32(0.3), ["dog"]),
        (0, ["dog", "cat"]),
        (1, []),
    ):
        (found,) = predictor.predict_each([image(30, 40)], threshold)
        assert found["class_name"].tolist() == names


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


def test_an_argument_of_another_library_is_refused_with_the_one_of_this(small_config: Config) -> None:
    detector = Detector(small_config, device="cpu")
    image = np.zeros((40, 40, 3), np.uint8)
    for argument, meant in {"imgsz": "resolution", "max_det": "max_detections", "clases": "classes"}.items():
        with pytest.raises(UsageError, match=f"no argument '{argument}'.*{meant}"):
            detector.predict(image, **{argument: 3})  # type: ignore[call-overload]


def test_a_resolution_for_one_prediction(small_config: Config) -> None:
    detector = Detector(small_config, device="cpu")
    image = np.random.default_rng(0).integers(0, 255, (60, 90, 3)).astype(np.uint8)
    other = Detector(small_config.updated({"data.resolution": 96}), device="cpu")
    other.model.load_state_dict(detector.model.state_dict())
    found = detector.predict(image, 0.0, resolution=96)
    np.testing.assert_array_equal(found.xyxy, other.predict(image, 0.0).xyxy)
    assert not np.array_equal(found.xyxy, detector.predict(image, 0.0).xyxy)
