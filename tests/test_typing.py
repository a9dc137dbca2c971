"""The keyword arguments of ``train`` are the keys of the configuration; the README's code passes ``mypy --strict``."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typed_settings import FILE, source

from anchordetr import Detector

ROOT = Path(__file__).parents[1]
# what the README's text stands for
_GIVEN = "import torch\n\nfeatures = torch.zeros(1, 20, 20, 256)\n"


def test_the_keywords_are_the_keys_of_the_configuration() -> None:
    formatted = FILE.read_text(encoding="utf-8")
    assert formatted == source(), "out of date; write it with: python tests/typed_settings.py"


@pytest.mark.parametrize("method", [Detector.train, Detector.dry_run])
def test_no_argument_has_the_name_of_a_key(method: object) -> None:
    from anchordetr.config.keywords import Settings

    assert not inspect.signature(method).parameters.keys() & Settings.__annotations__.keys()  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_code_of_the_readme_is_typed(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    file = tmp_path / "readme.py"
    file.write_text("\n".join([_GIVEN, *blocks]))
    assert_typed(file)


@pytest.mark.slow
def test_settings_are_typed(tmp_path: Path) -> None:
    file = tmp_path / "use.py"
    file.write_text(
        "from anchordetr import Config, Detector, preset, recipe\n\n"
        'detector: Detector = Detector("anchordetr_tiny", ["cat"], recipe="finetune", settings={"data.workers": 0})\n'
        'metrics = detector.train("shapes", epochs=50, workers=4, resolution=640, settings={"train.lr": 1e-4})\n'
        'config: Config = preset("anchordetr_tiny").updated(recipe("finetune"))\n'
        'print(metrics.ap, detector.to(0).train("shapes", flips=["vertical"], freeze=("backbone",)))\n'
    )
    assert_typed(file)
    file.write_text('from anchordetr import Detector\n\nDetector("x").train("shapes", epoch=5)\n')
    assert "Unexpected keyword argument" in mypy(file).stdout


def assert_typed(file: Path) -> None:
    checked = mypy(file)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def mypy(file: Path) -> subprocess.CompletedProcess[str]:
    options = ["--strict", "--follow-imports=silent", "--config-file=", "--ignore-missing-imports"]
    command = [sys.executable, "-m", "mypy", *options, "--cache-dir", str(ROOT / ".mypy_cache" / "readme"), str(file)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
