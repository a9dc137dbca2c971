"""``python -m anchordetr``: the command line."""

from anchordetr.cli.main import run

if __name__ == "__main__":
    run()
