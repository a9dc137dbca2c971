"""A class that a user registers, in a script or in an installed package, can be named like the library's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from anchordetr.errors import UsageError
from anchordetr.registry import Registry

PLUGIN = """
import torch
from torch import nn
from anchordetr.data.layouts.synthetic import ShapesDataset
from anchordetr.layers.attention import RowColumnMapAttention
from anchordetr.layers.position import SinePositionEncoder
from anchordetr.registry import ANCHORS, ATTENTIONS, BACKBONES, DATA_LAYOUTS, POSITION_ENCODERS


@ATTENTIONS.register("plugged_attention")
class PluggedAttention(RowColumnMapAttention):
    pass


@ANCHORS.register("plugged_anchors")
class DiagonalAnchors(nn.Module):
    def __init__(self, num_anchors):
        super().__init__()
        self.points = nn.Parameter(torch.linspace(0.1, 0.9, num_anchors).repeat(2, 1).T.contiguous())

    def forward(self):
        return self.points


@POSITION_ENCODERS.register("plugged_encoder")
class PluggedEncoder(SinePositionEncoder):
    pass


@BACKBONES.register("plugged_backbone")
class PatchBackbone(nn.Module):
    channels, strides = (8,), (16,)
    mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, kernel_size=16, stride=16)

    def forward(self, pixels):
        return [self.patches(pixels)]


@DATA_LAYOUTS.register("plugged_data")
class PluggedData(ShapesDataset):
    @staticmethod
    def missing(path):
        return "never by looking"

    @classmethod
    def open(cls, path, split):
        return cls(split, length=4, size=48)
"""


def test_an_installed_package_is_found_and_trains_a_step(tmp_path: Path) -> None:
    site = tmp_path / "site"
    information = site / "anchordetr_plug-0.1.dist-info"
    information.mkdir(parents=True)
    (site / "anchordetr_plug.py").write_text(PLUGIN)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: anchordetr-plug\nVersion: 0.1\n")
    (information / "entry_points.txt").write_text("[anchordetr.plugins]\nplug = anchordetr_plug\n")
    settings = {
        "model.attention": "plugged_attention",
        "model.anchors": "plugged_anchors",
        "model.position_encoder": "plugged_encoder",
        "model.backbone": "plugged_backbone",
        "model.embed_dim": "32",
        "model.num_heads": "4",
        "model.num_anchors": "9",
        "model.decoder_layers": "1",
        "data.layout": "plugged_data",
        "data.short_side": "48",
        "data.train_short_sides": "[48]",
    }
    changes = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    command = [
        sys.executable,
        "-m",
        "anchordetr",
        "train",
        "--data",
        "anything",
        "--model",
        "anchordetr_tiny",
        *changes,
    ]
    command += ["--output-dir", str(tmp_path / "run"), "--epochs", "1", "--batch-size", "4", "--workers", "0"]
    path = os.pathsep.join([str(site), str(Path(__file__).parents[1])])
    result = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "plugged_backbone" in (tmp_path / "run" / "last" / "config.json").read_text()


def test_a_name_is_taken_once() -> None:
    registry = Registry("thing")
    registry.register("one")(dict)
    registry.register("one")(dict)
    with pytest.raises(UsageError, match="'one' is already registered"):
        registry.register("one")(list)
    with pytest.raises(UsageError, match=r"Unknown thing 'ones'. Did you mean 'one'"):
        registry["ones"]
