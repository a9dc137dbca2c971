"""The ``anchordetr`` command: registers the sub-commands, and prints errors in one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated, Any, NoReturn

import typer

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
from anchordetr.errors import InputError, Stopped, UsageError


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"anchordetr {metadata.version('anchordetr')}")
        raise typer.Exit


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Anchor DETR: train, evaluate and use a detector whose queries are anchor points. "
    "Add --debug anywhere to see the traceback of an error.",
)


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options of the command itself."""


app.command("demo")(demo)
app.command("train")(train)
app.command("eval")(evaluate)
app.command("predict")(predict)
app.command("convert")(convert)
app.command("debug-step")(debug_step)
app.command("doctor")(doctor)
app.command("profile-memory")(profile_memory)
app.add_typer(benchmark.app, name="benchmark")
app.command("list-models")(list_models)
app.command("config")(show_config)


def run(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 for success, 2 for wrong usage, 1 for other errors, 128 + N after signal N."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    with protected_streams():
        try:
            options.require_values(given)
            code = app([part for part in given if part != "--debug"], prog_name="anchordetr", standalone_mode=False)
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
            _fail(error, "Interrupted.", 130, debug)
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
    end = "" if message.endswith((".", "?")) else "."
    _fail(error, f"{message}{end} See {command} --help.", error.exit_code, debug)


def _fail(error: BaseException, message: str, code: int, debug: bool) -> NoReturn:
    if debug:
        raise error
    print(f"anchordetr: {printable(' '.join(message.split()))}", file=sys.stderr)
    raise SystemExit(code)
