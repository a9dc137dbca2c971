"""Arguments of the command line."""

from __future__ import annotations

from pathlib import Path
from random import Random

from fuzz.models import save_small_model
from fuzz.mutations import mutated_arguments
from fuzz.outcome import CommandTarget
from PIL import Image

# fmt: off
VALUES = (
    "", " ", "-", "--", "-1", "0", "1", "²", "٣", "nan", "inf", "1e999", "1.5", "0x1", "9" * 5000, str(2 ** 64),
    "none", "null", "yes", "[]", "{}", "{0}", "[/bold]", "a\0b", "\ud800", "\x1b[2J", "x" * 300, "..", "*", "**", "[",
    "file.txt", "~nobody", "http://", "ftp://a", "file:///etc", "user/name", "meta", "cuda:99", "cpu", "--json",
    "--help", "--version", "--debug=1", "--set", "--set=train.lr=: :", "--set=train.lr=",
    "--set=data.train_short_sides=[]", "--set=model=1", "--set=model.backbone=no", "--set==", "--set=a.b.c=1",
    "--recipe", "--config", "--split", "--seed", "--size", "--threshold", "--patterns", "0,", ",", "0,0", "--anchors",
    "--layers", "--precision", "fp16", "--samples", "--fix",
)
COMMANDS = (
    "config anchordetr_tiny --recipe finetune --set train.lr=1e-4 --set data.train_short_sides=[48] --json",
    "config model --config settings.yaml --changes-only",
    "doctor images --samples page.png --model anchordetr_tiny --layout auto --json",
    "predict image.png --weights model --output-dir out --anchors 2 --patterns 1 --layers 1 --overwrite",
    "predict images --weights model --output-dir out --overwrite --threshold a=0 --save json,coco,crops --classes a",
    "eval --weights model --data nowhere --split val --output-dir out --device cpu --plots",
    "convert model other --to anchordetr --precision fp32 --overwrite --class-names a,b",
    "train --data nowhere --output-dir run --weights model --epochs 2 --batch-size 2 --lr 1e-4 --seed 1 --workers 0",
    "train --data nowhere --output-dir run --resume --device cpu --precision bf16 --match-classes name",
    "debug-step step.pt --json",
    "list-models --json",
)
# fmt: on


def target(folder: Path) -> CommandTarget:
    """Return commands in a folder, the working one, with an image, a model and a file of settings; none trains."""
    save_small_model(folder / "model")
    (folder / "images").mkdir()
    for file in (folder / "image.png", folder / "images" / "a.png"):
        Image.new("RGB", (10, 8)).save(file)
    (folder / "settings.yaml").write_text("train: {lr: 1.0e-4}\ndata: {workers: 0}\n")
    (folder / "file.txt").touch()
    return CommandTarget(mutate)


def mutate(random: Random) -> list[str]:
    return mutated_arguments(random.choice(COMMANDS).split(), random, VALUES)
