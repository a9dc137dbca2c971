"""The exponential moving average (EMA) of a network's weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def build_ema(model: nn.Module, decay: float) -> AveragedModel | None:
    """Return an EMA that is updated with ``update_parameters(model)``, or None where ``decay`` is 0.

    At update n the decay is min(decay, (1 + n) / (10 + n)), so that the EMA soon forgets the random initial weights.
    Buffers are copied from the network.
    """
    if decay == 0.0:
        return None

    def update(averages: Sequence[Tensor], values: Sequence[Tensor], count: Tensor | int) -> None:
        current = min(decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(current)(averages, values, count)

    return AveragedModel(model, multi_avg_fn=update)
