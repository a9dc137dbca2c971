"""The ``anchordetr`` command: registers the sub-commands, and prints errors in one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape
from typer.core import TyperGroup

from anchordetr.cli import benchmark, options
from anchordetr.cli.config import show_config
from anchordetr.cli.convert import convert
from anchordetr.cli.debug_step import debug_step
from anchordetr.cli.demo import demo
from anchordetr.cli.doctor import doctor
from anchordetr.cli.eval import evaluate
from anchordetr.cli.list_models import list_models
from anchordetr.cli.predict import predict
from anchordetr.cli.profile_memory import profile_memory
from anchordetr.cli.streams import protected_streams
from anchordetr.cli.train import train
from anchordetr.console import printable
from anchordetr.errors import InputError, Stopped, UsageError, closest_match, on_command_line


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"anchordetr {metadata.version('anchordetr')}")
        raise typer.Exit


_OLD_NAMES = {"replay": "debug-step"}
_SYNONYMS = {"fit": "train", "val": "eval", "test": "eval", "validate": "eval", "detect": "predict", "infer": "predict"}


class _Commands(TyperGroup):
    """The commands, of which one that does not exist is refused with the most similar one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name in _OLD_NAMES:
            ctx.fail(f"The command '{name}' is now called '{_OLD_NAMES[name]}'; use this name.")
        if name not in self.commands and not name.startswith("-"):
            meant = _SYNONYMS.get(name)
            suggestion = f" Did you mean '{meant}'?" if meant else closest_match(name, self.commands)
            ctx.fail(f"No such command '{name}'.{suggestion}")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Anchor DETR: train, evaluate and use a detector whose queries are anchor points.",
    epilog="Example: anchordetr train --data data/pets --recipe finetune",
)


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere, in every command.")
    ] = False,
) -> None:
    """Take the options of the command itself."""


_INTERRUPTED = 130
_MODELS, _DATA, _MEASURE = "Models", "Data and settings", "Measurements"
for name, command, panel, example in (
    ("train", train, _MODELS, "train --data data/pets --recipe finetune --resolution 640"),
    ("eval", evaluate, _MODELS, "eval --weights runs/train --data data/pets"),
    ("predict", predict, _MODELS, "predict photos/ street.jpg --weights runs/train"),
    ("convert", convert, _MODELS, "convert AnchorDETR_r50_dc5.pth models/coco"),
    ("list-models", list_models, _MODELS, "list-models"),
    ("demo", demo, _MODELS, "demo --epochs 2"),
    ("doctor", doctor, _DATA, "doctor data/pets --fix data/pets_repaired"),
    ("config", show_config, _DATA, "config anchordetr_r50_dc5 > pets.yaml"),
    ("profile-memory", profile_memory, _MEASURE, "profile-memory --size 800x1333 --fits 24GB"),
    ("debug-step", debug_step, _MEASURE, "debug-step runs/train/bad_step.pt"),
):
    app.command(name, rich_help_panel=panel, epilog=f"Example: anchordetr {example}")(command)
app.add_typer(benchmark.app, name="benchmark", rich_help_panel=_MEASURE)


def _command() -> Any:
    """Return the command line, in whose help texts square brackets are no markup."""
    root: Any = typer.main.get_command(app)
    pending = [root]
    while pending:
        part = pending.pop()
        pending += [*getattr(part, "commands", {}).values(), *getattr(part, "params", ())]
        for text in ("help", "epilog"):
            if getattr(part, text, None):
                setattr(part, text, escape(getattr(part, text)))
    return root


def run(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 for success, 2 for wrong usage, 1 for other errors, 128 + N after signal N."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    with protected_streams(), on_command_line():
        try:
            options.require_values(given)
            arguments = options.with_optional_values([part for part in given if part != "--debug"])
            code = _command()(arguments, prog_name="anchordetr", standalone_mode=False)
            if code == _INTERRUPTED:  # typer has made an exit of the exception
                raise KeyboardInterrupt
        except UsageError as error:
            _fail(error, str(error), 2, debug)
        except InputError as error:
            _fail(error, str(error), 1, debug)
        except OSError as error:
            named = error.filename is not None and error.strerror is not None
            _fail(error, f"{error.filename}: {error.strerror}." if named else str(error), 1, debug)
        except MemoryError as error:
            _fail(error, "There is not enough memory; close other programs, or use fewer or smaller images.", 1, debug)
        except Stopped as error:
            _fail(error, str(error), 128 + error.signal_number, debug)
        except (KeyboardInterrupt, typer.Abort) as error:
            _fail(error, "Interrupted.", _INTERRUPTED, debug)
        except Exception as error:
            if hasattr(error, "format_message"):  # of the parser, whose class depends on typer's version
                _explain_usage(error, debug)
            _fail(error, f"{type(error).__name__}: {error} (add --debug to see where)", 1, debug)
        raise SystemExit(code or 0)


def _explain_usage(error: Any, debug: bool) -> NoReturn:
    """Print what the parser of the command line says, and whose help explains it; it is empty after the help itself."""
    message = error.format_message().strip()
    if not message:
        raise SystemExit(error.exit_code)
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "anchordetr"
    if context and hasattr(error, "possibilities"):
        options_of_command = {name for parameter in context.command.params for name in parameter.opts}
        message = f"No such option: {error.option_name}.{options.meant(error.option_name, options_of_command)}"
    end = "" if message.endswith((".", "?")) else "."
    _fail(error, f"{message}{end} See {command} --help.", error.exit_code, debug)


def _fail(error: BaseException, message: str, code: int, debug: bool) -> NoReturn:
    if debug:
        raise error
    print(f"anchordetr: {printable(' '.join(message.split()))}", file=sys.stderr)
    raise SystemExit(code)
