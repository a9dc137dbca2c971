"""The exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def build_ema(model: nn.Module, decay: float) -> AveragedModel | None:
    """Return an average that is updated with ``update_parameters(model)``, or None where ``decay`` is 0.

    The decay rises to its value over the first steps, (1 + n) / (10 + n), so that the average soon leaves the random
    start. Buffers are those of the network itself.
    """
    if decay == 0.0:
        return None

    def average(means: Sequence[Tensor], values: Sequence[Tensor], count: Tensor | int) -> None:
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(now)(means, values, count)

    return AveragedModel(model, multi_avg_fn=average)
