"""Detect objects in one image with the installed package and an untrained network, and save both.

python .ci/predict_once.py ENVIRONMENT    # the folder in which the package has to be installed
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

import anchordetr
from anchordetr import Detector

place = Path(anchordetr.__file__).resolve()
assert place.is_relative_to(Path(sys.argv[1]).resolve()), f"anchordetr was imported from {place}"
assert (place.parent / "py.typed").is_file()

Image.new("RGB", (90, 60), "orange").save("image.png")
detector = Detector("anchordetr_tiny", class_names=["cat", "dog"], device="cpu")
detections = detector.predict("image.png", threshold=0.0)
assert len(detections) > 0
detector.save_pretrained("model")
print(f"{len(detections)} boxes by an untrained network")
