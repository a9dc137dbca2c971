"""Detections and detectors share no memory with the caller."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from anchordetr import Detections, Detector
from anchordetr.config import Config
from anchordetr.data.images import load_image


@pytest.fixture
def frame() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)


@pytest.fixture
def detector(small_config: Config) -> Detector:
    detector = Detector(small_config, ["cat", "dog", "ox"], [4, 8, 15], device="cpu")
    torch.nn.init.normal_(detector.model.heads.class_head.weight)
    return detector


def as_array(frame: NDArray[np.uint8]) -> Any:
    return frame


def as_fortran_array(frame: NDArray[np.uint8]) -> Any:
    return np.asfortranarray(frame)


def as_view(frame: NDArray[np.uint8]) -> Any:
    return frame[::-1, :, ::-1]


def as_tensor(frame: NDArray[np.uint8]) -> Any:
    return torch.from_numpy(frame).permute(2, 0, 1)


def as_contiguous_tensor(frame: NDArray[np.uint8]) -> Any:
    return torch.from_numpy(frame.transpose(2, 0, 1).copy())


def as_floats(frame: NDArray[np.uint8]) -> Any:
    return torch.from_numpy(frame.transpose(2, 0, 1) / np.float32(255))


def as_pillow(frame: NDArray[np.uint8]) -> Any:
    return Image.fromarray(frame)


KINDS = [as_array, as_fortran_array, as_view, as_tensor, as_contiguous_tensor, as_floats, as_pillow]


def erase(source: Any) -> None:
    if isinstance(source, Image.Image):
        source.paste((0, 0, 0), (0, 0, *source.size))
    else:
        source[...] = 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_buffer_can_be_used_again(kind: Any, detector: Detector, frame: NDArray[np.uint8]) -> None:
    source = kind(frame.copy())
    kept = load_image(source).copy()
    found = detector.predict(source, 0.0)
    several = detector.predict([source, source], 0.0, keep_images=True)
    erase(source)
    for detections in (found, *several):
        np.testing.assert_array_equal(detections.image, kept)
    several[0].image[...] = 7
    np.testing.assert_array_equal(several[1].image, kept)


@pytest.mark.parametrize("kind", KINDS)
def test_the_callers_image_stays_as_it_is(kind: Any, detector: Detector, frame: NDArray[np.uint8]) -> None:
    source = kind(frame.copy())
    before = np.asarray(source).copy()
    found = detector.predict(source, 0.0)
    assert isinstance(found, Detections)
    found.image[...] = 0
    found.plot()
    np.testing.assert_array_equal(np.asarray(source), before)


def test_an_image_that_cannot_be_written_is_detected_without_a_warning(
    detector: Detector, frame: NDArray[np.uint8]
) -> None:
    frame.flags.writeable = False
    found = detector.predict(frame, 0.0)
    assert isinstance(found, Detections)
    found.image[...] = 0


def test_a_plot_is_drawn_on_a_copy(detector: Detector, frame: NDArray[np.uint8]) -> None:
    found = detector.predict(frame, 0.0)
    assert isinstance(found, Detections)
    for detections in (found, found[:0]):
        detections.image = frame
        before = frame.copy()
        drawn = detections.plot()
        drawn.paste((1, 2, 3), (0, 0, 70, 50))
        np.testing.assert_array_equal(frame, before)


@pytest.mark.parametrize("rows", [slice(None), slice(0, 3), np.arange(3), np.ones(27, bool)], ids=str)
def test_a_selection_is_a_copy(rows: Any, detector: Detector, frame: NDArray[np.uint8]) -> None:
    found = detector.predict(frame, 0.0, anchors=9, patterns=1)
    assert isinstance(found, Detections)
    selected = found[rows]
    columns = ("xyxy", "confidence", "class_id", "anchor_xy", "pattern_id")
    before = {name: getattr(found, name).copy() for name in columns}
    for name in columns:
        getattr(selected, name)[...] = 0
    selected.data["category_id"][...] = 0
    for name in columns:
        np.testing.assert_array_equal(getattr(found, name), before[name])
    assert set(found.data["category_id"]) <= {4, 8, 15}
    assert selected.image is found.image


def test_results_can_be_changed(detector: Detector, frame: NDArray[np.uint8]) -> None:
    first = detector.predict(frame, 0.0, patterns=[1])
    assert isinstance(first, Detections)
    expected = {name: value.copy() for name, value in vars(first).items() if isinstance(value, np.ndarray)}
    for value in (*vars(first).values(), *first.data.values()):
        if isinstance(value, np.ndarray):
            value[...] = 0 if value.dtype.kind != "U" else ""
    again = detector.predict(frame, 0.0, patterns=[1])
    for name, value in expected.items():
        np.testing.assert_array_equal(getattr(again, name), value)
    assert set(again.data["class_name"]) <= {"cat", "dog", "ox"}


def test_predictions_of_a_fused_network_can_be_changed(detector: Detector) -> None:
    fused, images = detector.model.optimize_for_inference(), [torch.randn(3, 48, 64)]
    with torch.inference_mode():
        first = fused(images)
        expected = first.anchors.clone()
        first.anchors.zero_()
        assert torch.equal(fused(images).anchors, expected)


def test_names_and_ids_are_copied(small_config: Config, frame: NDArray[np.uint8]) -> None:
    names, ids = ["cat", "dog", "ox"], [4, 8, 15]
    detector = Detector(small_config, names, ids, device="cpu")
    names[0], ids[0] = "changed", 99
    assert (detector.class_names, detector.category_ids) == (["cat", "dog", "ox"], [4, 8, 15])


def test_supervision_gets_copies(detector: Detector, frame: NDArray[np.uint8]) -> None:
    pytest.importorskip("supervision", reason="needs the extra anchordetr[supervision]")
    found = detector.predict(frame, 0.0)
    assert isinstance(found, Detections)
    theirs = found.to_supervision()
    before = found.xyxy.copy()
    theirs.xyxy[...] = 0
    theirs.data["anchor_xy"][...] = -1
    np.testing.assert_array_equal(found.xyxy, before)
    assert (found.anchor_xy >= 0).all()
