"""Backbones: levels, frozen parts, weights, padding."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn

from anchordetr.errors import InputError, UsageError
from anchordetr.layers.backbone import Backbone, TimmBody
from anchordetr.types import ImageBatch

SMALL = "test_resnet.r160_in1k"


@pytest.mark.parametrize(
    ("features", "strides"),
    [("c3", (8,)), ("c4", (16,)), ("c5", (32,)), ("dc5", (16,)), ("c3_c4_dc5", (8, 16, 16))],
)
def test_levels_have_their_strides(features: str, strides: tuple[int, ...]) -> None:
    body = TimmBody("resnet10t", features)
    maps = body(torch.randn(1, 3, 64, 96))
    assert body.strides == strides
    assert [tuple(level.shape[1:]) for level in maps] == [
        (channels, 64 // stride, 96 // stride) for channels, stride in zip(body.channels, strides, strict=True)
    ]


def test_the_paper_freezes_stem_first_stage_and_batch_norm() -> None:
    body = TimmBody("resnet18", "c5").train()
    trained = {name.split(".")[1] for name, parameter in body.named_parameters() if parameter.requires_grad}
    assert trained == {"layer2", "layer3", "layer4"}
    norms = [module for module in body.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training or norm.weight.requires_grad for norm in norms)


def test_live_batch_norm_and_no_frozen_stage() -> None:
    body = TimmBody(SMALL, "c4", freeze_batch_norm=False, frozen_stages=0).train()
    assert all(parameter.requires_grad for parameter in body.parameters())
    assert all(module.training for module in body.modules())


def test_weights_come_from_a_file(tmp_path: Path) -> None:
    full = timm.create_model(SMALL)
    save_file(full.state_dict(), tmp_path / "weights.safetensors")
    body = TimmBody(SMALL, "c4", weights=tmp_path / "weights.safetensors")
    expected = full.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in body.network.state_dict().items())


def test_missing_or_damaged_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.safetensors does not exist"):
        TimmBody(SMALL, "c4", weights=tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="is a folder"):
        TimmBody(SMALL, "c4", weights=tmp_path)
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"could not be loaded from .*bad\.safetensors"):
        TimmBody(SMALL, "c4", weights=tmp_path / "bad.safetensors")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Neither a hub nor what was fetched from it; return the folder of the weights of the small network."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path / "models--timm--test_resnet.r160_in1k" / "snapshots" / "0"


def test_without_the_hub_weights_fail_at_once(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*arguments: object, **options: object) -> None:
        raise AssertionError("asked the hub")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", fetch)
    words = (
        r"'test_resnet.* not on this machine, and http://127.*give a file with the setting model\.backbone_weights=FILE"
    )
    with pytest.raises(InputError, match=words):
        TimmBody(SMALL, "c4", pretrained=True)


def test_weights_that_were_fetched_before_need_no_hub_and_no_note(
    offline: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    offline.mkdir(parents=True)
    (offline.parents[1] / "refs").mkdir()
    (offline.parents[1] / "refs" / "main").write_text("0")
    full = timm.create_model(SMALL).state_dict() | {"another": torch.zeros(1)}
    save_file(full, offline / "model.safetensors")
    body = TimmBody(SMALL, "c4", pretrained=True)
    assert all(torch.equal(value, full[name]) for name, value in body.network.state_dict().items())
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_a_network_without_published_weights_is_refused() -> None:
    with pytest.raises(UsageError, match="timm has no weights of the backbone 'resnetblur18'"):
        TimmBody("resnetblur18", "c4", pretrained=True)


def test_a_batch_too_small_for_batch_norm_is_explained() -> None:
    backbone = Backbone(TimmBody(SMALL, "c4", freeze_batch_norm=False))
    with pytest.raises(InputError, match=r"1 image\(s\) of 8x8 pixels is too small .* model\.freeze_batch_norm=true"):
        backbone(ImageBatch.from_list([torch.rand(3, 8, 8)]))


def test_unknown_names_and_levels_are_explained() -> None:
    with pytest.raises(UsageError, match="Did you mean 'resnet50"):
        TimmBody("resnet50x", "c5")
    with pytest.raises(UsageError, match="no map of stride 8"):
        TimmBody("vit_tiny_patch16_224", "c3")


def test_a_padded_batch_gives_each_image_its_own_maps() -> None:
    backbone = Backbone(TimmBody(SMALL, "c4", freeze_batch_norm=False)).eval()
    images = [torch.randn(3, 40, 70), torch.randn(3, 64, 33), torch.randn(3, 40, 70)]
    together = backbone(ImageBatch.from_list(images))[0]
    for index, image in enumerate(images):
        alone = backbone(ImageBatch.from_list([image]))[0]
        height, width = together.sizes[index]
        assert alone.sizes == ((height, width),)
        torch.testing.assert_close(together.features[index, :, :height, :width], alone.features[0])


def test_a_training_batch_knows_which_locations_are_valid() -> None:
    backbone = Backbone(TimmBody(SMALL, "c4", freeze_batch_norm=False)).train()
    level = backbone(ImageBatch.from_list([torch.randn(3, 40, 70), torch.randn(3, 64, 33)]))[0]
    assert level.sizes == ((3, 5), (4, 3))
    assert level.features.shape[-2:] == (4, 5)
