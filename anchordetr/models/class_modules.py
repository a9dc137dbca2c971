"""The parts of a network that have one row for each class."""

from __future__ import annotations

from torch import nn

from anchordetr.layers.denoising import LabelEmbedding
from anchordetr.layers.heads import ClassHead


def class_modules(model: nn.Module) -> dict[str, ClassHead | LabelEmbedding]:
    """Return class heads and label embeddings by module name, the decoder's class head last."""
    found = {name: part for name, part in model.named_modules() if isinstance(part, (ClassHead, LabelEmbedding))}
    return dict(sorted(found.items(), key=lambda item: item[0] == "heads.class_head"))
