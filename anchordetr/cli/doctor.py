"""The command ``anchordetr doctor``."""

from __future__ import annotations

from collections.abc import Callable
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
    from PIL import Image

    from anchordetr.config import Config
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
    data: Annotated[Path, typer.Argument(help="The data set, as for train --data.")],
    fix: Annotated[
        Path | None, typer.Option(help="Write a repaired copy (COCO layout) to this new folder, and list all changes.")
    ] = None,
    samples: Annotated[
        Path, typer.Option(help="File of the preview page with annotated samples; an existing file is replaced.")
    ] = Path("runs/doctor/samples.png"),
    augmentations: Annotated[
        Path | None,
        typer.Option(
            help="Draw a page of three training images with their boxes, each as training sees it in four epochs, to "
            f"this file, or without one to {options.AUGMENTATIONS}; an existing file is replaced. Try settings with "
            "--set data.mosaic=1 and the like."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="The preset that is to be trained, for its number of queries and its augmentation.")
    ] = "anchordetr_r50_dc5",
    recipe: options.Recipe = None,
    config: options.Config = None,
    set_: options.Set = None,
    layout: Annotated[str | None, typer.Option(help="A registered data layout; auto detects it.")] = None,
    val_fraction: options.ValFraction = None,
    seed: Annotated[
        int | None, typer.Option(help="The seed of the run, which chooses the images that are held out.")
    ] = None,
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
    from anchordetr.training.data import holdout_of

    given = options.given(data__layout=layout, data__val_fraction=val_fraction, train__seed=seed)
    settings = preset(model).updated(options.changes(recipe, config, set_, given))
    pages = {"Samples": samples, **({} if augmentations is None else {"Augmentations": augmentations})}
    writable = {title: page for title, page in pages.items() if _check_page(title, page)}
    if fix is not None:
        check_new_folder(fix)
    report = examine(data, settings.data.layout, settings.model.num_queries, holdout_of(settings))
    draw = {"Samples": lambda: _samples(report), "Augmentations": lambda: _augmentations(data, settings)}
    drawn = {title: page for title, page in writable.items() if _draw(title, draw[title], page)}
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
                **{title.lower(): str(drawn[title]) if title in drawn else None for title in pages},
                "changes": None if changes is None else [change._asdict() for change in changes],
            }
        )
    else:
        _print_report(report)
        for title, page in drawn.items():
            print(printable(f"{title}: {page}"))
        if changes is not None:
            _print_changes(changes, fix)
    if refusal is not None:
        raise refusal
    raise typer.Exit(0 if report.clean else 1)


def _check_page(title: str, page: Path) -> bool:
    """Return whether a preview page can be written; say so if its folder cannot.

    Raises:
        UsageError: it is no name of an image file.
    """
    from anchordetr.data.doctor.outputs import check_writable

    if page.suffix.lower() not in _PAGES or page.is_dir():
        raise UsageError(
            f"--{title.lower()} {page}: give the name of an image file, which ends in {' or '.join(_PAGES)}."
        )
    try:
        check_writable(page.parent)
    except InputError as error:
        say(f"{title} are not drawn: {error}")
        return False
    return True


def _draw(title: str, draw: Callable[[], Image.Image | None], file: Path) -> bool:
    """Write a preview page; say so if that fails, because the report matters more."""
    try:
        page = draw()
        if page is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            page.save(file)
    except Exception as error:
        say(f"{title} were not drawn: {reason(error)}.")
        return False
    return page is not None


def _samples(report: Report) -> Image.Image | None:
    from anchordetr.data.doctor.preview import sample_page

    return sample_page(report.splits)


def _augmentations(data: Path, settings: Config) -> Image.Image | None:
    from anchordetr.data.doctor.preview import augmentation_page
    from anchordetr.data.loader import train_samples
    from anchordetr.training.data import open_split

    dataset = open_split(data, "train", settings)
    return augmentation_page(train_samples(dataset, settings.data, settings.train.seed), dataset.class_names)


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
