"""Memory of a whole network."""

from __future__ import annotations

import pytest
import torch

from anchordetr.config import Config
from anchordetr.errors import UsageError
from anchordetr.profiling import model_memory
from anchordetr.profiling.model_memory import largest_images, parse_memory, profile_model

CPU = torch.device("cpu")


def test_parts_of_a_step_add_up(small_config: Config) -> None:
    memory = profile_model(small_config, 96, 128, 2, CPU)
    training, inference = memory["training"], memory["inference"]
    assert list(inference.stages) == ["backbone", "encoder", "decoder"]
    assert list(training.stages) == ["backbone", "encoder", "decoder", "loss", "backward", "optimizer"]
    trained = 4 * sum(weight.numel() for weight in _parameters(small_config))
    assert training.moments_bytes == pytest.approx(2 * trained, rel=0.01)
    held = [stage.held for stage in training.stages.values()]
    assert held[0] < held[1] < held[2] < held[3]
    assert training.stages["backward"].held == pytest.approx(trained, rel=0.1)
    assert training.peak_bytes > inference.peak_bytes > inference.weights_bytes


def _parameters(config: Config) -> list[torch.nn.Parameter]:
    return list(model_memory.build_model(config.model).parameters())


def test_the_largest_image_fits_and_the_next_one_does_not(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_memory, "_PROBE_SIDES", (128, 192, 256))
    budget = 48 << 20
    fits = {(fit.mode, fit.batch_size): fit for fit in largest_images(small_config, 300, 400, budget, CPU, (1, 2))}
    one, two = fits["training", 1], fits["training", 2]
    assert one.width / one.height == pytest.approx(4 / 3, rel=0.01)
    assert one.height**2 == pytest.approx(2 * two.height**2, rel=0.3)
    assert fits["inference", 1].height > one.height
    for fit, batch in ((one, 1), (two, 2)):
        assert profile_model(small_config, fit.height, fit.width, batch, CPU)["training"].peak_bytes < 1.05 * budget
        larger = fit.height + 64
        peak = profile_model(small_config, larger, larger * 4 // 3, batch, CPU)["training"].peak_bytes
        assert peak > 0.95 * budget


def test_nothing_fits_into_no_memory(small_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_memory, "_PROBE_SIDES", (64, 96, 128))
    assert {fit.height for fit in largest_images(small_config, 64, 64, 1 << 10, CPU, (1,))} == {0}


@pytest.mark.parametrize(("text", "size"), [("24GB", 24 << 30), ("1.5 GiB", 3 << 29), ("900M", 900 << 20), ("64", 64)])
def test_sizes_of_memory_are_read(text: str, size: int) -> None:
    assert parse_memory(text) == size


def test_what_is_no_size_is_named() -> None:
    with pytest.raises(UsageError, match="'much' is not a memory size"):
        parse_memory("much")
