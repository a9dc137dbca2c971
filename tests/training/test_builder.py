"""From a configuration to a trainer: frozen parts, anchors from the data, parts past the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anchordetr import Detector
from anchordetr.config import Config
from anchordetr.data.box_centers import box_centres, representatives
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.errors import UsageError
from anchordetr.training.builder import init_anchors

PARTS: dict[str, dict[str, Any]] = {
    "refine": {"model.box_refinement": True},
    "rotary": {"model.attention": "rcda_rotary"},
    "fused": {"model.features": "c3_c4_c5", "model.fusion_level": "c4", "model.backbone": "resnet10t"},
    "anchors": {"train.anchors_from_data": True},
    "all": {
        "model.box_refinement": True,
        "model.attention": "rcda_rotary",
        "model.features": "c4_c5",
        "model.fusion_level": "c4",
        "train.anchors_from_data": True,
    },
}


@pytest.mark.parametrize("changes", PARTS.values(), ids=PARTS.keys())
def test_each_part_trains_saves_and_predicts_the_same(
    changes: dict[str, Any], small_config: Config, coco_folder: Path, tmp_path: Path
) -> None:
    detector = Detector(small_config.updated(changes), device="cpu")
    before = {name: value.clone() for name, value in detector.model.state_dict().items()}
    detector.train(coco_folder, tmp_path, epochs=1)
    assert any(not torch.equal(value, before[name]) for name, value in detector.model.named_parameters())
    loaded = Detector.from_pretrained(tmp_path / "last", device="cpu")
    assert loaded.config.model == detector.config.model
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    np.testing.assert_array_equal(loaded.predict(image, 0.0).xyxy, detector.predict(image, 0.0).xyxy)


def test_frozen_parts_stay_and_unknown_ones_are_named(small_config: Config, coco_folder: Path, tmp_path: Path) -> None:
    detector = Detector(small_config, ["circle", "rectangle", "triangle"], device="cpu")
    before = {name: value.clone() for name, value in detector.model.named_parameters()}
    detector.train(coco_folder, tmp_path / "run", epochs=1, freeze=["encoder", "decoder.layers.0"])
    moved = {name for name, value in detector.model.named_parameters() if not torch.equal(value, before[name])}
    assert moved
    assert not any(name.startswith(("encoder.", "decoder.layers.0.")) for name in moved)
    assert any(name.startswith("decoder.layers.1.") for name in moved)
    with pytest.raises(UsageError, match=r"names 'encode', .* Its parts: .*encoder"):
        detector.train(coco_folder, tmp_path / "other", epochs=1, freeze=["encode"])


def test_anchors_start_where_the_objects_are(
    small_config: Config, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_config.updated({"train.anchors_from_data": True, "train.lr": 1e-12, "train.epochs": 1})
    detector = Detector(config, device="cpu")
    detector.train(coco_folder, tmp_path)
    train_set = open_dataset(coco_folder, "train")
    expected = representatives(box_centres(train_set.annotations, config.data.flips), 9, config.train.seed)
    np.testing.assert_allclose(detector.model.queries.anchors.points.detach().numpy(), expected, atol=1e-6)
    assert f"anchors are initialised from the centres of {len(train_set.annotations.labels)} boxes" in (
        capsys.readouterr().err
    )


def test_resuming_leaves_the_anchors_alone(
    small_config: Config, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_config.updated({"train.anchors_from_data": True, "train.lr": 0.05, "train.drop_at": 1.0})

    def points(folder: str, epochs: int, resume: bool = False) -> torch.Tensor:
        detector = Detector(config, device="cpu")
        detector.train(coco_folder, tmp_path / folder, resume=resume, epochs=epochs, warmup=0.0)
        last = Detector.from_pretrained(tmp_path / folder / "last", device="cpu")
        return last.model.queries.anchors.points

    whole = points("whole", 2)
    points("parts", 1)
    assert capsys.readouterr().err.count("anchors are initialised") == 2
    torch.testing.assert_close(points("parts", 2, resume=True), whole, rtol=0, atol=0)
    assert "anchors are initialised" not in capsys.readouterr().err


def test_models_without_learned_anchors_are_refused(small_config: Config, coco_folder: Path) -> None:
    with pytest.raises(UsageError, match=r"set .*model\.anchors=learned"):
        small_config.updated({"train.anchors_from_data": True, "model.anchors": "grid"})
    detector = Detector(small_config.updated({"model.queries": "embeddings"}), device="cpu")
    with pytest.raises(UsageError, match="needs learned anchors"):
        init_anchors(detector.model, open_dataset(coco_folder, "train"), small_config)
