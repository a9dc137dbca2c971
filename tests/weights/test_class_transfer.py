"""Fine-tuning on other classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from anchordetr import Detector
from anchordetr.cli.main import run
from anchordetr.config import Config, ModelConfig
from anchordetr.errors import UsageError
from anchordetr.models.builders import build_model
from anchordetr.weights.class_transfer import adopt_classes, copy_rows


@pytest.fixture
def weights(small_config: Config, tmp_path: Path) -> Path:
    """A saved detector of other classes than the data's circle, rectangle and triangle; two names are shared."""
    detector = Detector(small_config.updated({"train.seed": 7}), ["ox", "Triangle ", "cat", "circle"], device="cpu")
    nn.init.normal_(detector.model.heads.class_head.weight)
    detector.save_pretrained(tmp_path / "start")
    return tmp_path / "start"


def train(weights: Path, data: Path, output: Path, *more: str) -> int:
    arguments = ["train", "--weights", str(weights), "--data", str(data), "--output-dir", str(output), *more]
    frozen = ["--lr", "1e-30", "--set", "train.backbone_lr=0", "--set", "train.weight_decay=0"]
    with pytest.raises(SystemExit) as exit_info:
        run([*arguments, *frozen, "--epochs", "1", "--device", "cpu"])
    return int(exit_info.value.code or 0)


def test_rows_are_matched_by_name() -> None:
    old, new = nn.Linear(2, 3), nn.Linear(2, 2)
    before = new.weight.detach().clone()
    assert copy_rows(old, ["cat", "dog", "ox"], new, ["bird", "OX"]) == ["OX"]
    assert torch.equal(new.weight[1], old.weight[2])
    assert torch.equal(new.bias[1], old.bias[2])
    assert torch.equal(new.weight[0], before[0])


def test_the_seed_alone_decides_new_rows(small_model: ModelConfig) -> None:
    def new_head(seed: int) -> Tensor:
        model = build_model(small_model)
        state = torch.get_rng_state()
        adopt_classes(model, ["ox", "cat", "dog"], ["cat", "cow"], "none", seed)
        assert torch.equal(torch.get_rng_state(), state)
        return model.heads.class_head.weight

    first = new_head(5)
    assert torch.equal(new_head(5), first)
    assert not torch.equal(new_head(6), first)


@pytest.mark.parametrize("match", ["name", "none"])
def test_everything_but_the_class_head_is_kept(
    match: str, weights: Path, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(weights, coco_folder, tmp_path / "run", "--match-classes", match) == 0
    shown = " ".join(capsys.readouterr().err.split())
    start, end = (Detector.from_pretrained(path, device="cpu") for path in (weights, tmp_path / "run"))
    old, new = start.model.state_dict(), end.model.state_dict()
    kept = [name for name, tensor in new.items() if tensor.is_floating_point() and "running" not in name]
    kept = [name for name in kept if not name.startswith("heads.class_head")]
    assert len(kept) > 50
    assert all(torch.allclose(new[name], old[name], atol=1e-6) for name in kept)
    assert end.class_names == ["circle", "rectangle", "triangle"]
    for row, source in {0: 3, 2: 1}.items():
        is_same = torch.allclose(new["heads.class_head.weight"][row], old["heads.class_head.weight"][source], atol=1e-6)
        assert is_same == (match == "name")
    assert "kept" in shown
    assert "newly initialised" in shown
    assert ("copied by name" in shown) == (match == "name")
    origin = json.loads((tmp_path / "run" / "last" / "config.json").read_text())["origin"]
    assert origin["started_from"] == {"source": str(weights)}


def test_the_labels_of_denoising_queries_follow_the_classes(
    small_config: Config, coco_folder: Path, tmp_path: Path
) -> None:
    config = small_config.updated({"model.denoising_groups": 2, "train.seed": 7})
    start = Detector(config, ["ox", "Triangle ", "cat", "circle"], device="cpu")
    before = start.model.training_sources["denoising"].labels.weight.detach().clone()
    start.config = start.config.updated({"train.backbone_lr": 0.0, "train.weight_decay": 0.0})
    start.train(coco_folder, tmp_path, epochs=1, lr=1e-30)
    after = Detector.from_pretrained(tmp_path, device="cpu").model.training_sources["denoising"].labels.weight
    assert after.shape == (3, 32)
    torch.testing.assert_close(after[[0, 2]], before[[3, 1]], atol=1e-6, rtol=0)
    assert not any(torch.allclose(after[1], row, atol=1e-3) for row in before)


def test_parts_that_do_not_fit_are_all_listed(
    weights: Path, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(weights, coco_folder, tmp_path / "run", "--set", "model.num_anchors=16") == 1
    assert "queries.anchors.points is 9×2 instead of 16×2" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_wrong_choice_is_a_usage_error(
    weights: Path, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(weights, coco_folder, tmp_path / "run", "--match-classes", "maybe") == 2
    assert train(weights, coco_folder, tmp_path / "run", "--model", "anchordetr_tiny") == 2
    assert "leave out --model" in capsys.readouterr().err
    with pytest.raises(UsageError, match="must be 'name' or 'none'"):
        Detector.from_pretrained(weights, device="cpu").train(coco_folder, tmp_path / "run", match_classes="ids")


def test_the_same_classes_keep_their_head(weights: Path, coco_folder: Path, tmp_path: Path) -> None:
    assert train(weights, coco_folder, tmp_path / "first") == 0
    assert train(tmp_path / "first", coco_folder, tmp_path / "second") == 0
    first, second = (Detector.from_pretrained(tmp_path / name, device="cpu") for name in ("first", "second"))
    torch.testing.assert_close(
        second.model.heads.class_head.weight, first.model.heads.class_head.weight, atol=1e-6, rtol=0
    )
