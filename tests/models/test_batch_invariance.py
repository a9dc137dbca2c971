"""An image gets the same prediction alone and among images of other sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from anchordetr import Detector
from anchordetr.config import Config, ModelConfig
from anchordetr.models.builders import build_model

SIZES = [(64, 80), (80, 64), (33, 97), (64, 80), (120, 40), (50, 50), (1, 70), (64, 79)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention": "standard"},
        {"features": "c3_c4_dc5", "backbone": "resnet10t"},
        {"attention": "rcda_rotary"},
        {"features": "c3_c4_c5", "fusion_level": "c3", "backbone": "resnet10t"},
        {"features": "c3_c4_c5", "fusion_level": "c4", "backbone": "resnet10t"},
        {"features": "c3_c4_c5", "fusion_level": "c5", "backbone": "resnet10t"},
        {"box_refinement": True},
        {"queries": "proposals"},
        {
            "attention": "rcda_rotary",
            "queries": "proposals",
            "box_refinement": True,
            "box_offsets": "relative",
            "box_bias": True,
            "encode_sizes": True,
        },
        {"queries": "proposals", "features": "c3_c4_dc5", "backbone": "resnet10t"},
    ],
    ids=str,
)
def test_network(changes: dict[str, Any], small_model: ModelConfig) -> None:
    model = build_model(ModelConfig(**{**small_model.model_dump(), **changes})).eval()
    torch.nn.init.normal_(model.heads.box_head.layers[-1].weight)
    images = [torch.randn(3, *size) for size in SIZES]
    with torch.no_grad():
        together = model(images)
        for index, image in enumerate(images):
            alone = model([image])
            count = alone.boxes.shape[2]  # proposals are as few as the locations of the image
            torch.testing.assert_close(together.boxes[:, index, :count], alone.boxes[:, 0], atol=1e-5, rtol=5e-5)
            torch.testing.assert_close(together.logits[:, index, :count], alone.logits[:, 0], atol=1e-4, rtol=0)
            assert (together.logits[:, index, count:].sigmoid() < 1e-9).all()  # padding sees no object


def test_a_tiny_image_beside_a_huge_one_gives_no_nan(small_model: ModelConfig) -> None:
    model = build_model(small_model)
    for mode in (model.train(), model.eval()):
        with torch.no_grad():
            predictions = mode([torch.randn(3, 1, 1), torch.randn(3, 640, 640), torch.randn(3, 1, 640)])
        assert torch.isfinite(predictions.logits).all()
        assert torch.isfinite(predictions.boxes).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.full((3, 8, 8), float("nan")), "Image 1 holds NaN or infinite values"),
        (torch.zeros(4, 8, 8), r"Image 1 has shape \(4, 8, 8\); expected \(3, height, width\)"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "Image 1 is torch.uint8; expected normalised"),
    ],
)
def test_tensors_of_another_kind_are_refused_by_the_network(
    image: torch.Tensor, message: str, small_model: ModelConfig
) -> None:
    model = build_model(small_model)
    with pytest.raises(ValueError, match=message):
        model([torch.zeros(3, 8, 8), image])
    with pytest.raises(ValueError, match="list of images is empty"):
        model([])


def test_detector(small_config: Config) -> None:
    detector = Detector(small_config)
    torch.nn.init.normal_(detector.model.heads.class_head.weight)
    torch.nn.init.normal_(detector.model.heads.box_head.layers[-1].weight)
    images = [np.random.default_rng(i).integers(0, 256, (*size, 3)).astype(np.uint8) for i, size in enumerate(SIZES)]
    together = detector.predict(images, threshold=0.0)
    for image, found in zip(images, together, strict=True):
        alone = detector.predict(image, threshold=0.0)
        np.testing.assert_allclose(found.xyxy, alone.xyxy, atol=1e-4 * max(image.shape))
        np.testing.assert_allclose(found.confidence, alone.confidence, atol=1e-5)
        np.testing.assert_array_equal(found.class_id, alone.class_id)
        np.testing.assert_array_equal(found.pattern_id, alone.pattern_id)
