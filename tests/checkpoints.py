"""Small checkpoints in the formats of the original implementation and of detrex."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import torch
from pseudo_weights import pseudo_state_dict
from torch import Tensor

from anchordetr.config import ModelConfig
from anchordetr.data.layouts.coco_classes import COCO_CLASSES
from anchordetr.models.builders import build_model
from anchordetr.weights.official_names import to_original

Weights = dict[str, Tensor]


def official(state: Mapping[str, Tensor], **arguments: Any) -> dict[str, Any]:
    """Return a checkpoint as the original's training writes it."""
    return {
        "model": dict(state),
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]},
        "lr_scheduler": {"step_size": 40, "base_lrs": [1e-4]},
        "epoch": 49,
        "args": argparse.Namespace(nheads=8, **arguments),
    }


def detrex(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the same weights under detrex's names, with 80 classes."""
    ids = torch.tensor(list(COCO_CLASSES))
    return {
        key.replace("input_proj.0.", "input_proj."): value[ids] if "class_embed" in key else value
        for key, value in state.items()
    }


def original_weights(num_classes: int = 91, **changes: Any) -> Weights:
    """Return pseudo-random weights of a small model under the original's names."""
    small: dict[str, Any] = {"backbone": "resnet18.tv_in1k", "encoder_layers": 2, "decoder_layers": 2, "ffn_dim": 48}
    config = ModelConfig(
        num_classes=num_classes, pretrained_backbone=False, num_anchors=9, **{**small, "embed_dim": 32, **changes}
    )
    with torch.device("meta"):
        state = to_original(build_model(config).state_dict(), config.decoder_layers)
    return pseudo_state_dict({key: list(tensor.shape) for key, tensor in state.items()})


def assert_same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
