"""The parts of a network that have one row for each class."""

from __future__ import annotations

import torch
from torch import nn

from anchordetr.layers.denoising import LabelEmbedding
from anchordetr.layers.heads import ClassHead


def class_modules(model: nn.Module) -> dict[str, ClassHead | LabelEmbedding]:
    """Return class heads and label embeddings by their names, the decoder's class head last."""
    found = {name: part for name, part in model.named_modules() if isinstance(part, (ClassHead, LabelEmbedding))}
    return dict(sorted(found.items(), key=lambda item: item[0] == "heads.class_head"))


def replace_class_modules(model: nn.Module, num_classes: int, seed: int) -> None:
    """Put new parts for other classes in the place of those with one row for each class."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for name, module in class_modules(model).items():
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, module.for_classes(num_classes))
