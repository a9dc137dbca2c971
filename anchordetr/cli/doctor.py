"""The command ``anchordetr doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from anchordetr.cli import options
from anchordetr.cli.tables import print_json
from anchordetr.console import plain, printable, say
from anchordetr.errors import InputError, UsageError, listed, reason

if TYPE_CHECKING:
    from anchordetr.data.doctor.repair import Change
    from anchordetr.data.doctor.report import Report

_SHOWN = 5
_CLASSES_SHOWN = 100
_PAGES = (".png", ".jpg", ".jpeg", ".webp")
_ROWS = {
    "images": "images",
    "images without objects": "images_without_objects",
    "objects": "objects",
    "crowds": "crowds",
    "objects per image": "objects_per_image",
    "image width": "image_width",
    "image height": "image_height",
    "box width": "box_width",
    "box height": "box_height",
    "boxes below 32² - below 96² - larger": "box_sizes",
    "image ids": "image_ids",
}


def doctor(
    data: Annotated[Path, typer.Argument(help="The folder of the data set.")],
    fix: Annotated[
        Path | None, typer.Option(help="Write a repaired copy (COCO layout) to this new folder, and list all changes.")
    ] = None,
    samples: Annotated[
        Path, typer.Option(help="File of the preview page with annotated samples; an existing file is replaced.")
    ] = Path("runs/doctor/samples.png"),
    model: Annotated[
        str, typer.Option(help="The preset that is to be trained, for its number of queries.")
    ] = "anchordetr_r50_dc5",
    layout: Annotated[str, typer.Option(help="A registered data layout; auto detects it.")] = "auto",
    yes: Annotated[
        bool, typer.Option("--yes", help="Write the copy even if it lacks more than 1 % of the images or boxes.")
    ] = False,
    plugin: options.Plugin = None,
    json: options.Json = False,
) -> None:
    """Check a data set: print statistics and problems. Exits 0 if there are no problems, 1 otherwise."""
    from anchordetr.data.doctor.outputs import check_new_folder
    from anchordetr.data.doctor.repair import write_repaired
    from anchordetr.data.doctor.report import examine
    from anchordetr.models.presets import preset

    queries = preset(model).model.num_queries
    can_draw = _check_samples(samples)
    if fix is not None:
        check_new_folder(fix)
    report = examine(data, layout, queries)
    is_drawn = can_draw and _draw(report, samples)
    changes, refusal = None, None
    if fix is not None:
        try:
            changes = write_repaired(report, fix, yes)
        except InputError as error:
            refusal = error
    if json:
        print_json(
            {
                **report.to_dict(),
                "samples": str(samples) if is_drawn else None,
                "changes": None if changes is None else [change._asdict() for change in changes],
            }
        )
    else:
        _print_report(report)
        if is_drawn:
            print(printable(f"Samples: {samples}"))
        if changes is not None:
            _print_changes(changes, fix)
    if refusal is not None:
        raise refusal
    raise typer.Exit(0 if report.clean else 1)


def _check_samples(samples: Path) -> bool:
    """Return whether the preview page can be written; say so if its folder cannot.

    Raises:
        UsageError: it is no name of an image file.
    """
    from anchordetr.data.doctor.outputs import check_writable

    if samples.suffix.lower() not in _PAGES or samples.is_dir():
        raise UsageError(f"--samples {samples}: give the name of an image file, which ends in {' or '.join(_PAGES)}.")
    try:
        check_writable(samples.parent)
    except InputError as error:
        say(f"Samples are not drawn: {error}")
        return False
    return True


def _draw(report: Report, samples: Path) -> bool:
    """Write the preview page; say so if that fails, because the report matters more."""
    from anchordetr.data.doctor.preview import sample_page

    try:
        page = sample_page(report.splits)
        if page is not None:
            samples.parent.mkdir(parents=True, exist_ok=True)
            page.save(samples)
    except Exception as error:
        say(f"Samples were not drawn: {reason(error)}.")
        return False
    return page is not None


def _print_report(report: Report) -> None:
    console = Console()
    statistics = {split.name: split.statistics() for split in report.splits}
    summary = Table("smallest - median - largest in pixels", *(Column(plain(name)) for name in statistics))
    for title, key in _ROWS.items():
        summary.add_row(title, *(_format(values[key]) for values in statistics.values()))
    classes = Table("class", "id", *(Column(plain(f"{name}: objects / images")) for name in statistics))
    first: dict[str, Any] = next(iter(statistics.values()), {"classes": {}})["classes"]
    for name, row in list(first.items())[:_CLASSES_SHOWN]:
        counts = [values["classes"].get(name, {"objects": 0, "images": 0}) for values in statistics.values()]
        classes.add_row(plain(name), str(row["id"]), *(f"{each['objects']} / {each['images']}" for each in counts))
    if len(first) > _CLASSES_SHOWN:
        classes.caption = f"and {len(first) - _CLASSES_SHOWN} more, see --json"
    console.print(plain(f"{report.data}: {report.layout}"))
    console.print(summary)
    console.print(classes)
    _print_findings(report, console)


def _print_findings(report: Report, console: Console) -> None:
    from anchordetr.data.findings import KINDS

    findings = Table("split", "severity", "problem", "count")
    findings.add_column("names", overflow="fold")
    for split, finding in report.all_findings():
        names = listed(finding.names, _SHOWN)
        kind = KINDS[finding.kind]
        findings.add_row(plain(split), kind.severity, kind.description, str(len(finding.names)), plain(names))
    if findings.row_count:
        console.print(findings)
    verdict = (
        "Clean." if report.clean else "Problems were found; --fix OUT writes a repaired copy, --json lists all names."
    )
    console.print(verdict, markup=False)


def _print_changes(changes: list[Change], output: Path | None) -> None:
    for change in changes:
        print(printable(f"{change.split}: {change.name}: {change.what}"))
    print(printable(f"{len(changes)} changes; the repaired copy is {output}, the list {output}/changes.json."))


def _format(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    numbers = (str(number) if isinstance(number, int) else f"{number:g}" for number in value.values())
    return " - ".join(numbers) or "-"
