"""Fine-tuning on other classes: new class heads, with the rows of classes of the same name copied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from rich.table import Table
from torch import nn

from anchordetr.console import table_text
from anchordetr.errors import UsageError
from anchordetr.models.anchor_detr import AnchorDETR
from anchordetr.models.class_modules import class_modules
from anchordetr.seeding import independent_initialization

MatchClasses = Literal["name", "none"]


def check_match(match: str) -> None:
    """Check how classes are matched.

    Raises:
        UsageError: it is neither ``name`` nor ``none``.
    """
    if match not in ("name", "none"):
        raise UsageError(f"match_classes is '{match}'; it must be 'name' or 'none'.")


def adopt_classes(
    model: AnchorDETR, old_names: Sequence[str], new_names: Sequence[str], match: MatchClasses, seed: int
) -> Table:
    """Replace all parts of a network that have one row for each class.

    Args:
        model: the network, changed in place.
        old_names, new_names: names of the classes before and after.
        match: ``name`` copies the rows of classes of the same name, ``none`` copies nothing.
        seed: of the random values of new rows.

    Returns:
        A table of what was kept, copied and newly initialised.
    """
    device = next(model.parameters()).device
    copied: list[str] = []
    with independent_initialization(seed):
        for name, old in class_modules(model).items():
            new = old.for_classes(len(new_names))
            if match == "name":
                copied = copy_rows(old, old_names, new, new_names)
            model.set_submodule(name, new.to(device))
    return transfer_table(model, copied, new_names)


@torch.no_grad()
def copy_rows(old: nn.Module, old_names: Sequence[str], new: nn.Module, new_names: Sequence[str]) -> list[str]:
    """Copy the rows of classes with the same name in both, ignoring case and surrounding spaces.

    Args:
        old, new: modules whose parameters have one row for each class, such as class heads.
        old_names, new_names: names of their classes.

    Returns:
        The copied names, as spelled in ``new_names``.
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
        model: the network with its new class parts.
        copied: names of the classes whose rows were copied.
        class_names: all names of the new classes.
    """
    table = Table("part", "tensors", "parameters", "what happened")
    for name, part in model.named_children():
        prefixes = tuple(f"{part}." for part in class_modules(model))
        tensors = [value for key, value in part.state_dict(prefix=f"{name}.").items() if not key.startswith(prefixes)]
        if tensors:
            count = sum(tensor.numel() for tensor in tensors)
            table.add_row(name, str(len(tensors)), f"{count:,}", "kept")
    kept = set(copied)
    new = [name for name in class_names if name not in kept]
    for names, what in ((copied, "copied by name"), (new, "newly initialised")):
        if names:
            table.add_row(table_text(f"class_head: {', '.join(names)}", 2000), "", f"{len(names)} rows", what)
    return table
