"""Fine-tuning on other classes: which rows go on, and what is told about it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from rich.markup import escape
from rich.table import Table
from torch import nn


@torch.no_grad()
def copy_rows(old: nn.Module, old_names: Sequence[str], new: nn.Module, new_names: Sequence[str]) -> list[str]:
    """Copy the rows of classes that both know by the same name, whatever its case.

    Args:
        old, new: modules whose parameters have one row for each class, such as class heads.
        old_names, new_names: of the classes.

    Returns:
        The names of the copied classes, as the new module has them.
    """
    rows = {name.casefold().strip(): row for row, name in enumerate(old_names)}
    copied = []
    for row, name in enumerate(new_names):
        known = rows.get(name.casefold().strip())
        if known is not None:
            for key, value in new.named_parameters():
                value[row] = old.get_parameter(key)[known]
            copied.append(name)
    return copied


def transfer_table(model: nn.Module, copied: Sequence[str], class_names: Sequence[str]) -> Table:
    """Return a table of what was kept, copied and newly initialised.

    Args:
        model: the network with its new ``class_head``.
        copied: names of the classes whose rows were copied.
        class_names: of the new head.
    """
    table = Table("part", "tensors", "parameters", "what happened")
    for name, part in model.named_children():
        tensors = list(part.state_dict().values())
        if name not in ("class_head", "denoising") and tensors:
            count = sum(tensor.numel() for tensor in tensors)
            table.add_row(name, str(len(tensors)), f"{count:,}", "kept")
    new = [name for name in class_names if name not in copied]
    for names, what in ((copied, "copied by name"), (new, "newly initialised")):
        if names:
            table.add_row(escape(f"class_head: {', '.join(names)}"), "", f"{len(names)} rows", what)
    return table
