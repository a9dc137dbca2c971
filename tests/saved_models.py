"""Small saved models, and changes to their ``config.json``."""

from __future__ import annotations

import json
from pathlib import Path

from anchordetr.config import Config, ModelConfig
from anchordetr.models.presets import preset


def smallest_config(num_classes: int) -> Config:
    """Return a network whose weights are read in a millisecond."""
    model = ModelConfig(
        num_classes=num_classes,
        backbone="test_resnet.r160_in1k",
        pretrained_backbone=False,
        features="c4",
        num_anchors=4,
        num_patterns=1,
        embed_dim=32,
        num_heads=2,
        encoder_layers=1,
        decoder_layers=1,
        ffn_dim=16,
    )
    return preset("anchordetr_tiny").model_copy(update={"model": model})


def edit_config(folder: Path, **changes: object) -> None:
    """Change entries of a saved model's ``config.json``."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
