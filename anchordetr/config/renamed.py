"""Renamed and removed configuration keys and values: refused in what a user writes, upgraded in what was saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The new key is in the section of the old one.
RENAMED = {
    "model.start": "model.init",
    "model.predict_cells": "model.encoder_loss",
    "model.refine": "model.box_refinement",
    "model.denoising": "model.denoising_groups",
    "model.fuse_at": "model.fusion_level",
    "train.accumulate": "train.grad_accum_steps",
    "train.clip_norm": "train.clip_max_norm",
    "train.ema": "train.ema_decay",
    "train.patience": "train.early_stopping_patience",
}
REMOVED = {"train.device": "choose the device with --device, or with the argument device of Detector"}
RENAMED_VALUES = {("model.anchors", "none"): ("model.queries", "embeddings")}


def explain_renamed(key: str, value: Any) -> str | None:
    """Return a sentence that names what replaced a ``section.key`` or its value; None where nothing did."""
    if key in RENAMED:
        return f"The configuration key '{key}' is now called '{RENAMED[key]}'; use this name."
    if key in REMOVED:
        return f"The configuration key '{key}' is gone; {REMOVED[key]}."
    if isinstance(value, str) and (key, value) in RENAMED_VALUES:
        new_key, new_value = RENAMED_VALUES[key, value]
        return f"{key}={value} is now {new_key}={new_value}; set this instead."
    return None


def upgrade(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a saved model or training state of an earlier format version with current names.

    Args:
        values: ``{"section": {"key": value}}``; entries that are not mappings, and current names, stay as they are.
    """
    return {
        section: _upgrade_section(section, content) if isinstance(content, Mapping) else content
        for section, content in values.items()
    }


def _upgrade_section(section: str, content: Mapping[str, Any]) -> dict[str, Any]:
    upgraded = {}
    for name, value in content.items():
        key = f"{section}.{name}"
        if key in REMOVED:
            continue
        if isinstance(value, str) and (key, value) in RENAMED_VALUES:
            key, value = RENAMED_VALUES[key, value]
        upgraded[RENAMED.get(key, key).removeprefix(f"{section}.")] = value
    return upgraded
