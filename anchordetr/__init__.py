"""Anchor DETR: a transformer detector whose queries are anchor points, and its row-column decoupled attention."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anchordetr.config import Config
    from anchordetr.detections import Detections
    from anchordetr.detector import Detector
    from anchordetr.models.anchor_detr import AnchorDETR
    from anchordetr.models.builders import create_model
    from anchordetr.models.presets import list_models, preset, recipe
    from anchordetr.types import ImageBatch, Predictions, Target

__version__ = "0.1.0"

_HOMES = {
    "AnchorDETR": "anchordetr.models.anchor_detr",
    "Config": "anchordetr.config",
    "Detections": "anchordetr.detections",
    "Detector": "anchordetr.detector",
    "ImageBatch": "anchordetr.types",
    "Predictions": "anchordetr.types",
    "Target": "anchordetr.types",
    "create_model": "anchordetr.models.builders",
    "list_models": "anchordetr.models.presets",
    "preset": "anchordetr.models.presets",
    "recipe": "anchordetr.models.presets",
}

__all__ = [
    "AnchorDETR",
    "Config",
    "Detections",
    "Detector",
    "ImageBatch",
    "Predictions",
    "Target",
    "create_model",
    "list_models",
    "preset",
    "recipe",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'anchordetr' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
