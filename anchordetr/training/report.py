"""``report.md``: a run on one page, with curves, sample predictions, and the command that started it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch

from anchordetr import markdown
from anchordetr.config import Config, differences
from anchordetr.console import duration, shortened
from anchordetr.files import write_text
from anchordetr.machine import commit
from anchordetr.metrics import Metrics
from anchordetr.training.progress import LOSSES, Outcome

REPORT_FILE = "report.md"
_PAGE = """# {title}

{command}

| | |
|---|---|
{facts}

| AP | AP50 | AP75 | small | medium | large | AR at 100 |
|---|---|---|---|---|---|---|
| {ap} | {ap50} | {ap75} | {ap_small} | {ap_medium} | {ap_large} | {ar_100} |

## Classes

| class | AP | threshold |
|---|---|---|
{classes}

{left_out}## Epochs

{curves}| epoch | loss | class | box | giou | AP | AP50 |
|---|---|---|---|---|---|---|
{epochs}

{samples}## Settings that differ from the paper's

{settings}
"""


def describe_origin(data: str | Path, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return where the weights of a run come from: data, command, versions, and the weights it started from.

    Args:
        data: as the user named it.
        before: origin of the weights that the run starts from; empty if they are random.
    """
    checkout = commit()
    program = Path(sys.argv[0]).name.replace("__main__.py", "anchordetr")
    started_from = {key: before[key] for key in ("source", "data") if key in before}
    return {
        **({"started_from": started_from} if started_from else {}),
        "data": str(data),
        "command": shlex.join([program, *sys.argv[1:]]),
        "versions": {
            "anchordetr": version("anchordetr"),
            **({"commit": checkout} if checkout else {}),
            "torch": torch.__version__,
        },
    }


def write_report(
    folder: Path,
    metrics: Metrics,
    history: Sequence[Mapping[str, Any]],
    origin: Mapping[str, Any],
    outcome: Outcome,
    config: Config,
    figures: Mapping[str, Sequence[Path]],
) -> None:
    """Write the page of a run.

    Args:
        folder: of the run.
        metrics: of its best model.
        history: one entry for each epoch.
        origin: data, command and versions.
        outcome: how the run ended.
        config: of the run.
        figures: ``curves`` and ``samples``, files below ``folder``.
    """
    values = {name: _fraction(value) for name, value in metrics.to_dict().items() if isinstance(value, float)}
    classes, left_out = metrics.shown_classes()
    facts = {
        "data": origin["data"],
        "epochs": f"{len(history)}, the best is {outcome.best_epoch}",
        "ended because": outcome.reason,
        "duration": duration(outcome.seconds),
        "device": outcome.device,
        "threshold": f"{metrics.threshold:g}, with the highest F1: {metrics.f1:.3f}",
        **origin["versions"],
    }
    text = _PAGE.format(
        title=markdown.escaped(folder.name),
        command=markdown.code(origin["command"]),
        facts="\n".join(f"| {name} | {markdown.escaped(str(value))} |" for name, value in facts.items()),
        classes="\n".join(
            f"| {_class(name)} | {_fraction(value)} | {metrics.class_thresholds.get(name, '')} |"
            for name, value in classes.items()
        ),
        left_out=f"{left_out}\n\n" if left_out else "",
        curves=_show(folder, figures["curves"]),
        epochs="\n".join(_row(entry) for entry in history),
        samples=f"## Samples\n\n{_show(folder, figures['samples'])}" if figures["samples"] else "",
        settings=_settings(config),
        **values,
    )
    write_text(folder / REPORT_FILE, text)


def _show(folder: Path, files: Sequence[Path]) -> str:
    links = (quote(file.relative_to(folder).as_posix()) for file in files)
    shown = "".join(f"![{markdown.escaped(file.stem)}]({link})\n" for file, link in zip(files, links, strict=True))
    return f"{shown}\n" if files else ""


def _class(name: str) -> str:
    return markdown.escaped(shortened(name, 100))


def _row(entry: Mapping[str, Any]) -> str:
    losses = [f"{entry[f'loss_{name}']:.3f}" for name in LOSSES]
    metrics = [_fraction(entry[name]) if name in entry else "" for name in ("ap", "ap50")]
    return f"| {entry['epoch']} | {' | '.join([*losses, *metrics])} |"


def _settings(config: Config) -> str:
    changed = differences(Config().model_dump(mode="json"), config.model_dump(mode="json"))
    lines = [f"- {key}: {markdown.escaped(str(new))} ({_papers(old)})" for key, (old, new) in sorted(changed.items())]
    return "\n".join(lines) or "None."


def _papers(value: Any) -> str:
    return "differs from the paper's" if value == "paper" else f"the paper's {value}"


def _fraction(value: float) -> str:
    return "-" if value < 0 else f"{value:.3f}"
