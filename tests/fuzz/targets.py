"""All that is fuzzed, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fuzz import archives, coco, command_line, images, models, voc, yolo
from fuzz.outcome import Target

TARGETS: dict[str, Callable[[Path], Target]] = {
    "COCO annotations": coco.target,
    "YOLO labels": yolo.labels,
    "YOLO data.yaml": yolo.settings,
    "YOLO obj.data": yolo.darknet,
    "VOC annotations": voc.target,
    "archives": archives.target,
    "images": images.target,
    "model.safetensors": models.weights,
    "config.json": models.config,
    "training_state.pt": models.state,
    "checkpoints of the original": models.checkpoint,
    "command line": command_line.target,
}
