"""Options that several commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from anchordetr.errors import UsageError

_WHOLE_NUMBER = re.compile("[0-9]{1,9}")

# panels of the help
MODEL = "Model and settings"
TRAINING = "Training"
MACHINE = "Machine"
OF_MODEL = "the model's"


def of_model(text: str, panel: str = TRAINING) -> Any:
    """Return an option of a setting that is the model's own where it is not given."""
    return typer.Option(help=text, show_default=OF_MODEL, rich_help_panel=panel)


DATA_HELP = "A folder, data.yaml, COCO's JSON file or a .zip of them (docs/data.md), or 'shapes' for generated images."
Data = Annotated[str, typer.Option(help=DATA_HELP)]
ValFraction = Annotated[
    float | None,
    typer.Option(help="Hold out this fraction of the images of train if there is no split for validation, e.g. 0.2."),
]
Weights = Annotated[
    str,
    typer.Option(
        help="A saved model's folder, a run's output folder, a checkpoint file of the original or of detrex, "
        "a published model's name (see list-models), or user/name on the Hugging Face hub."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps, or a GPU: 0, 1 or cuda:1.", rich_help_panel=MACHINE)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
InferenceBatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        help="Images computed at once; results agree to rounding.",
        show_default="chosen by the size of the images",
        rich_help_panel=MACHINE,
    ),
]
InferencePrecision = Annotated[
    str | None,
    typer.Option(
        "--precision", help="Number format: fp32, bf16 or fp16.", show_default="fp32", rich_help_panel=MACHINE
    ),
]
Resolution = Annotated[int | None, of_model("Pixels of the long side of images, in evaluation and training.")]
InferenceResolution = Annotated[
    int | None,
    typer.Option(
        help="Pixels of the long side of images; another one than in training is allowed.", show_default=OF_MODEL
    ),
]
Epochs = Annotated[int | None, of_model("Total number of epochs.")]
BatchSize = Annotated[int | None, of_model("Images per optimizer step.")]
LearningRate = Annotated[float | None, of_model("Learning rate of all parameters but the backbone's.")]
BackboneLearningRate = Annotated[float | None, of_model("Learning rate of the backbone.")]
Ema = Annotated[float | None, of_model("Decay of the EMA of the weights, such as 0.995; 0 is no EMA.")]
Patience = Annotated[int | None, of_model("Stop after so many evaluations without a better AP; 0 is never.")]
Seed = Annotated[int | None, of_model("Random seed of initial weights, shuffling and augmentation.")]
Workers = Annotated[
    int | None, of_model("Worker processes that load images; 0 loads them in the main process.", MACHINE)
]
Precision = Annotated[str | None, of_model("Number format: fp32, bf16 or fp16.", MACHINE)]
GradientCheckpointing = Annotated[
    bool | None,
    typer.Option(
        "--gradient-checkpointing",
        help="Use less memory: recompute features in the backward pass.",
        rich_help_panel=MACHINE,
    ),
]
Anchors = Annotated[int | None, typer.Option(help="Use only this many anchors, spread evenly among all.")]
Patterns = Annotated[
    str | None,
    typer.Option(help="Use only the first so many patterns ('2'), or those numbered '0,2' ('2,' for one)."),
]
Layers = Annotated[int | None, typer.Option(help="Use only this many decoder layers, the first ones.")]
Recipe = Annotated[
    str | None,
    typer.Option(help="Settings for a kind of data: 'finetune' for a few hundred images.", rich_help_panel=MODEL),
]
Config = Annotated[
    Path | None,
    typer.Option(
        help="YAML or JSON file of changes to the preset, or the config.json of a saved model.", rich_help_panel=MODEL
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change one key: section.key=value, or key=value. Can be repeated.", rich_help_panel=MODEL
    ),
]


def _import_plugins(files: list[Path] | None) -> list[Path] | None:
    from anchordetr.registry import import_file

    for file in files or []:
        import_file(file)
    return files


Plugin = Annotated[
    list[Path] | None,
    typer.Option(
        help="Python file that registers parts of your own, imported first. Can be repeated.",
        callback=_import_plugins,
        rich_help_panel=MODEL,
    ),
]


def given(**values: Any) -> dict[str, Any]:
    """Return the options that the user gave, with their configuration keys (``train__lr`` for ``train.lr``)."""
    return {key.replace("__", "."): value for key, value in values.items() if value is not None}


def changes(
    recipe: str | None, config: Path | None, set_: list[str] | None, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the changes to a preset, ``{"section.key": value}``.

    ``--set`` and the ``options`` of :func:`given` override the file, and the file the recipe. The last two are one
    layer: a size and a resolution that contradict each other are refused, where one in a file is overridden.

    Raises:
        UsageError: there is no such recipe, an assignment cannot be read, or contradicts an option.
        InputError: the file cannot be read.
    """
    from anchordetr.config import merged, parse_assignments, read_config_file
    from anchordetr.models.presets import recipe as recipe_settings

    options, assigned = options or {}, merged(parse_assignments(set_ or []))
    for key in options.keys() & assigned.keys():
        if options[key] != assigned[key]:
            raise UsageError(f"{key} is given twice, {options[key]} and --set {key}={assigned[key]}; leave out one.")
    return merged(
        recipe_settings(recipe) if recipe is not None else {},
        read_config_file(config) if config is not None else {},
        {**assigned, **options},
    )


_MEANT = {
    "gpu": "--device",
    "gpus": "--device",
    "out": "--output-dir",
    "outdir": "--output-dir",
    "checkpoint": "--weights",
    "ckpt": "--weights",
    "dataset": "--data",
    "exist_ok": "--overwrite",
}


def meant(option: str, known: Collection[str]) -> str:
    """Return ``" Did you mean --epochs?"`` for an option that a command does not have, or an empty text.

    Args:
        option: what was given, such as ``--imgsz``.
        known: the options of the command.
    """
    from anchordetr.config.schema import full_key
    from anchordetr.config.unknown import ELSEWHERE, NEEDLESS, SYNONYMS
    from anchordetr.errors import closest

    name = option.lstrip("-").replace("-", "_")
    if name in NEEDLESS:
        return f" {NEEDLESS[name]}"
    elsewhere = ELSEWHERE[name][0] if name in ELSEWHERE else _MEANT.get(name, "")
    key = SYNONYMS.get(name, full_key(name))
    own = (elsewhere, elsewhere.split(" ")[0], f"--{key.rpartition('.')[2].replace('_', '-')}")
    match = next((part for part in own if part in known), None)
    if match is None and "." in key and "--set" in known:
        match = f"--set {key}=..."
    match = match or elsewhere or closest(option, known)
    return f" Did you mean {match}?" if match else ""


def silence_profiler() -> None:
    """Keep torch's profiler, which measures memory, from writing to stderr; call before torch is imported."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")


def parse_patterns(text: str | None) -> int | list[int] | None:
    """Read a number of patterns (``2``), or a list of patterns (``0,2``, or ``2,`` for one).

    Raises:
        UsageError: the text is neither.
    """
    if text is None:
        return None
    numbers = parse_numbers("--patterns", text.removesuffix(","))
    return numbers if "," in text else numbers[0]


def parse_threshold(text: str | None) -> float | dict[str, float] | None:
    """Read a score (``0.5``), or scores of classes (``cat=0.3,dog=0.6``).

    Raises:
        UsageError: the text is neither, or a score is not from 0 to 1.
    """
    from anchordetr.prediction_options import require_score

    if text is None:
        return None
    scores: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.rpartition("=")
        try:
            scores[name.strip()] = float(value)
        except ValueError:
            raise UsageError(
                f"--threshold {text} is not a score or a list of them; write for example 0.5 or cat=0.3,dog=0.6."
            ) from None
        require_score(scores[name.strip()], "score in --threshold")
    if "" in scores and len(scores) > 1:
        raise UsageError(f"--threshold {text} mixes one score for all classes with scores of some; give one kind.")
    return scores.get("", scores)


def parse_numbers(option: str, text: str) -> list[int]:
    """Read whole numbers, separated by commas.

    Raises:
        UsageError: a part is not a whole number of at most nine digits.
    """
    numbers = [number.strip() for number in text.split(",")]
    if not all(_WHOLE_NUMBER.fullmatch(number) for number in numbers):
        raise UsageError(f"{option} {text} is not a whole number or a list of them; write for example 2 or 0,2.")
    return [int(number) for number in numbers]


def parse_size(text: str) -> tuple[int, int]:
    """Read HEIGHTxWIDTH.

    Raises:
        UsageError: the text is not of this form, or a side is not between 1 and 32768.
    """
    from anchordetr.config.training import LARGEST_SIDE

    sides = text.lower().split("x")
    if len(sides) != 2 or not all(_WHOLE_NUMBER.fullmatch(side) for side in sides):
        raise UsageError(f"--size {text} is not of the form HEIGHTxWIDTH, for example 800x1333.")
    height, width = map(int, sides)
    if not (1 <= height <= LARGEST_SIDE and 1 <= width <= LARGEST_SIDE):
        raise UsageError(f"--size {text} has a side that is not between 1 and {LARGEST_SIDE}.")
    return height, width


AUGMENTATIONS = "runs/doctor/augmentations.png"


def with_optional_values(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the default file after an ``--augmentations`` without one, which Typer cannot add."""
    completed = []
    for argument, following in pairwise([*arguments, "--"]):
        is_bare = argument == "--augmentations" and following.startswith("-")
        completed += [argument, AUGMENTATIONS] if is_bare else [argument]
    return completed


def require_values(arguments: Sequence[str]) -> None:
    """Check that no argument is empty, as it is where a variable of a script is not set.

    Raises:
        UsageError: names the option whose value is empty.
    """
    for before, argument in zip(["", *arguments], arguments, strict=False):
        name, separator, value = argument.partition("=")
        if argument.startswith("--") and separator and not value.strip():
            raise UsageError(f"{name} has an empty value; give a value, or leave it out.")
        if not argument.strip():
            subject = f"{before} has an empty value" if before.startswith("--") else "An argument is empty"
            raise UsageError(f"{subject}; give a value, or leave it out.")
