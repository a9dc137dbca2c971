"""The baseline of our speed computes the original's numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import original_criterion
import original_order
import pytest
import torch
from pseudo_weights import pseudo_image, pseudo_state_dict
from torch import Tensor

from anchordetr.criterion import build_criterion
from anchordetr.types import Predictions, Target


def test_the_network(golden: Callable[[str], dict[str, Tensor]], golden_json: Callable[[str], Any]) -> None:
    tensors = golden("r50_dc5")
    baseline = original_order.AnchorDETR().eval()
    baseline.load_state_dict(pseudo_state_dict(golden_json("keys_r50_dc5")))
    for index, row in enumerate(tensors["images"].tolist()):
        image = pseudo_image(*row).unsqueeze(0)
        with torch.no_grad():
            outputs = baseline(image, torch.zeros(1, *image.shape[-2:], dtype=torch.bool))
        torch.testing.assert_close(outputs["logits"][-1][0, ::9], tensors["logits"][index], atol=1e-4, rtol=0)
        torch.testing.assert_close(outputs["boxes"][-1][0], tensors["boxes"][index], atol=1e-5, rtol=0)
        torch.testing.assert_close(outputs["boxes"][0][0], tensors["aux0_boxes"][index], atol=1e-5, rtol=0)


def test_the_losses() -> None:
    logits, boxes = torch.randn(3, 2, 20, 7), torch.rand(3, 2, 20, 4) * 0.5 + 0.2
    targets = [Target(torch.rand(count, 4) * 0.5 + 0.2, torch.randint(7, (count,))) for count in (5, 2)]
    predictions = Predictions(logits, boxes, boxes[-1, ..., :2], num_anchors=20)
    expected = build_criterion(7)(predictions, targets).total
    baseline = original_criterion.Criterion(7)
    found = baseline({"logits": logits, "boxes": boxes}, [vars(target) for target in targets])
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
