"""Every preset and plug-in parts go through the same fused path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from anchordetr import create_model, list_models
from anchordetr.config import ModelConfig
from anchordetr.layers.attention import RowColumnMapAttention
from anchordetr.layers.heads import Heads
from anchordetr.layers.memory import Memory
from anchordetr.layers.proposals import ProposalQueries
from anchordetr.layers.queries import Queries
from anchordetr.models.anchor_detr import AnchorDETR
from anchordetr.models.builders import build_model
from anchordetr.models.presets import preset
from anchordetr.registry import ATTENTIONS, QUERY_SOURCES
from anchordetr.types import Target

NUM_CLASSES = 7  # no other product of these networks has seven outputs
IMAGES = [torch.randn(3, 64, 96), torch.randn(3, 64, 96)]
PADDED = [IMAGES[0], torch.randn(3, 48, 72)]


class Operators(TorchDispatchMode):
    """Records the name of each operator and the shape of its output."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[int, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self.calls.append((str(func), tuple(output.shape) if isinstance(output, Tensor) else ()))
        return output


class ScaledAttention(RowColumnMapAttention):
    """A plug-in attention that is no kind the library knows."""

    def forward(self, query: Queries | Memory, memory: Memory) -> Tensor:
        return 0.5 * super().forward(query, memory)


class BrightestLocations(nn.Module):
    """A plug-in query source whose queries differ from image to image."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_queries = config.num_anchors
        self.content = nn.Parameter(torch.randn(config.embed_dim))

    def forward(self, memory: Memory, heads: Heads, targets: Sequence[Target] | None = None) -> Queries:
        brightness = memory.values.detach()[..., 0].flatten(1)
        rows = brightness.topk(self.num_queries, dim=1).indices.unsqueeze(-1).expand(-1, -1, 2)
        points = memory.positions.points.expand(len(brightness), -1, -1, -1).flatten(1, 2).gather(1, rows)
        content = self.content.to(memory.values.dtype).expand(len(brightness), self.num_queries, -1)
        return Queries(content, memory.encode(points), points, num_anchors=self.num_queries)


@pytest.fixture
def plugins() -> Iterator[None]:
    """Register the plug-ins for the time of a test."""
    ATTENTIONS.register("scaled_test")(ScaledAttention)
    QUERY_SOURCES.register("brightest_test")(BrightestLocations)
    yield
    del ATTENTIONS._components["scaled_test"], QUERY_SOURCES._components["brightest_test"]


def with_random_heads(model: AnchorDETR) -> AnchorDETR:
    torch.nn.init.normal_(model.heads.box_head.layers[-1].weight, std=0.1)
    torch.nn.init.normal_(model.heads.class_head.weight)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.8, 1.2)
    return model.eval()


def check_fused(model: AnchorDETR) -> None:
    """The fused network predicts as its own does, without batch norms and without auxiliary predictions."""
    fused = model.optimize_for_inference()
    for images in (IMAGES, PADDED):
        with torch.inference_mode():
            expected, found = model(images), fused(images)
        torch.testing.assert_close(found.boxes[0], expected.boxes[-1], atol=1e-4, rtol=0)
        torch.testing.assert_close(found.logits[0], expected.logits[-1], atol=2e-3, rtol=1e-3)
    with torch.no_grad(), Operators() as operators:
        queries = fused(IMAGES).logits.shape[2]
    names = [name for name, _ in operators.calls]
    assert not any("batch_norm" in name for name in names)
    class_heads = [
        shape for name, shape in operators.calls if ("mm" in name or "linear" in name) and shape[-1:] == (7,)
    ]
    assert len(class_heads) == 1 + isinstance(model.queries, ProposalQueries)  # which has a class head of its own
    assert torch.Size(class_heads[-1][:-1]).numel() == len(IMAGES) * queries
    assert not fused.training_sources


@pytest.mark.parametrize("name", list_models())
def test_a_preset_predicts_the_same_when_fused(name: str) -> None:
    model = create_model(name, num_classes=NUM_CLASSES, pretrained_backbone=False)
    check_fused(with_random_heads(model))


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "scaled_test"},
        {"queries": "brightest_test", "num_anchors": 12},
        {"queries": "brightest_test", "num_anchors": 12, "attention": "scaled_test", "box_refinement": True},
    ],
    ids=["attention", "query_source", "both"],
)
@pytest.mark.usefixtures("plugins")
def test_plugins_predict_the_same_when_fused(changes: dict[str, Any]) -> None:
    config = preset("anchordetr_tiny").model.model_copy(update={"num_classes": NUM_CLASSES, **changes})
    check_fused(with_random_heads(build_model(ModelConfig(**config.model_dump()))))


@pytest.mark.usefixtures("plugins")
def test_queries_of_a_plugin_differ_from_image_to_image() -> None:
    config = preset("anchordetr_tiny").model.model_copy(update={"queries": "brightest_test", "num_anchors": 12})
    with torch.inference_mode():
        anchors = with_random_heads(build_model(config)).optimize_for_inference()(IMAGES).anchors
    assert not torch.equal(anchors[0], anchors[1])
