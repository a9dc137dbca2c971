"""Fixtures: golden cases, a tiny network, a small data set on disk."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported, which some of these do

from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from anchordetr.config import Config, ModelConfig
from anchordetr.data.layouts.synthetic import ShapesDataset
from anchordetr.models.presets import preset

TESTS = Path(__file__).parent
GOLDEN = TESTS / "golden"
torch.manual_seed(0)  # for what test files make when they are imported
sys.path[:0] = [str(TESTS), str(GOLDEN), str(TESTS.parent / "benchmarks")]


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name parameters in ASCII: test processes exchange texts in UTF-8, which has no lone surrogates."""
    return ascii(val) if isinstance(val, str) and not val.isascii() else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape lone surrogates in what tests log and print, for the same reason."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, Tensor]]:
    """Load the tensors of a golden case."""
    return lambda name: load_file(GOLDEN / f"{name}.safetensors")


@pytest.fixture(scope="session")
def golden_json() -> Callable[[str], Any]:
    """Load the description of a golden case."""
    return lambda name: json.loads((GOLDEN / f"{name}.json").read_text())


@pytest.fixture
def small_model() -> ModelConfig:
    """A network that trains a step in a fraction of a second."""
    return ModelConfig(
        num_classes=3,
        backbone="test_resnet.r160_in1k",
        pretrained_backbone=False,
        freeze_batch_norm=False,
        frozen_stages=0,
        features="c4",
        num_anchors=9,
        num_patterns=2,
        embed_dim=32,
        num_heads=4,
        encoder_layers=1,
        decoder_layers=2,
        ffn_dim=32,
    )


@pytest.fixture
def small_config(small_model: ModelConfig) -> Config:
    """The tiny recipe on the small network, without worker processes."""
    config = preset("anchordetr_tiny").model_copy(update={"model": small_model})
    return config.updated(
        {"data.workers": 0, "data.short_side": 48, "data.train_short_sides": [48], "train.batch_size": 4}
    )


@pytest.fixture(scope="session")
def coco_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training and four validation images in COCO's layout, with gaps in the category ids."""
    folder = tmp_path_factory.mktemp("coco")
    (folder / "annotations").mkdir()
    for split, length in (("train", 8), ("val", 4)):
        dataset = ShapesDataset(split, length, size=64)
        dataset.category_ids = [3, 7, 20]
        (folder / split).mkdir()
        for index in range(length):
            drawn = Image.fromarray(dataset.image(index).permute(1, 2, 0).numpy())
            drawn.save(folder / split / dataset.annotations[index].file_name)
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(dataset.ground_truth()))
    return folder


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random numbers."""
    torch.manual_seed(0)
