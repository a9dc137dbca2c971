"""Memory of predicting large photographs, and what a type checker knows about predictions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MEASURE = """
import sys, threading
import numpy as np
from anchordetr import Detector

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

detector = Detector("anchordetr_tiny", ["cat"], device="cpu")
detector.predict(np.zeros((30, 40, 3), np.uint8))
before, most, stop = resident(), 0.0, threading.Event()

def watch():
    global most
    while not stop.wait(0.005):
        most = max(most, resident())

thread = threading.Thread(target=watch)
thread.start()
count = 0
if sys.argv[2] == "list":
    count = len(detector.predict(sys.argv[1]))
else:
    for found in detector.predict_each(sys.argv[1], 0.0):
        found.plot()
        count += 1
stop.set()
thread.join()
print(count, most - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of the process from /proc")
@pytest.mark.parametrize("way", ["list", "plot each"])
def test_sixteen_large_photographs_stay_below_300_mebibytes(way: str, tmp_path: Path) -> None:
    small = np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    Image.fromarray(small).resize((4000, 3000)).save(tmp_path / "00.jpg")
    for number in range(1, 16):
        (tmp_path / f"{number:02d}.jpg").symlink_to(tmp_path / "00.jpg")
    command = [sys.executable, "-c", MEASURE, str(tmp_path), way]
    count, mebibytes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(count) == 16
    assert 30 < float(mebibytes) < 300


TYPED = """
from pathlib import Path
from typing import Any, assert_type
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from anchordetr import Detections, Detector

detector = Detector("anchordetr_tiny")
frame, image, files = np.zeros((4, 4, 3), np.uint8), Image.new("RGB", (4, 4)), [Path("a.jpg")]
assert_type(detector.predict("street.jpg", threshold=0.5), Detections)
assert_type(detector.predict(Path("street.jpg"), {"cat": 0.5}, batch_size=2), Detections)
assert_type(detector.predict(frame), Detections)
assert_type(detector.predict(image), Detections)
assert_type(detector(b"..."), Detections)
assert_type(detector(open("a.jpg", "rb")), Detections)
assert_type(detector.predict(files), list[Detections])
assert_type(detector.predict(["a.jpg", "b.jpg"], keep_images=True), list[Detections])
assert_type(detector.predict((frame, frame)), list[Detections])
assert_type(detector.predict(path for path in files), list[Detections])
assert_type(list(detector.predict_each("photos/")), list[Detections])
found = detector.predict("street.jpg")
assert_type(found[0], Detections)
assert_type(found[found.confidence > 0.5], Detections)
assert_type(found["class_name"], NDArray[Any])
assert_type([one for one in found], list[Detections])
detector.predict("street.jpg", treshold=0.5)  # type: ignore[call-overload]
"""


@pytest.mark.slow
def test_a_type_checker_knows_what_comes_out(tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text(TYPED)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--warn-unused-ignores",
        "--config-file",
        "",
        "--follow-imports=silent",
    ]
    result = subprocess.run(
        [*command, str(tmp_path / "typed.py")], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert result.returncode == 0, result.stdout
