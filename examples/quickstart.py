"""Train on a small data set, evaluate, load and predict: the main steps on one screen.

python examples/quickstart.py                                    # generated images, nothing to download
python examples/quickstart.py --data path/to/coco --images path/to/photos --epochs 20
"""

from __future__ import annotations

import argparse
from pathlib import Path

from anchordetr import Detector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="shapes", help="data set folder, or 'shapes'")
    parser.add_argument("--images", help="images to predict: file, folder, glob pattern or URL")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--output-dir", type=Path, default=Path("runs/quickstart"))
    arguments = parser.parse_args()

    detector = Detector("anchordetr_tiny")
    metrics = detector.train(arguments.data, arguments.output_dir, overwrite=True, epochs=arguments.epochs)
    print(f"AP {metrics.ap:.3f}, AP50 {metrics.ap50:.3f}, by class {metrics.per_class}")

    detector = Detector.from_pretrained(arguments.output_dir / "best")
    assert detector.evaluate(arguments.data) == metrics

    if arguments.images is not None:
        for index, detections in enumerate(detector.predict_each(arguments.images, threshold=0.3)):
            for name, score, box in zip(
                detections.data["class_name"], detections.confidence, detections.xyxy, strict=True
            ):
                print(f"{detections.source}: {name} {score:.2f} at {box.round().tolist()}")
            detections.plot(arguments.output_dir / f"prediction_{index}.png")


if __name__ == "__main__":
    main()
