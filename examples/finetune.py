"""Fine-tune a small detector on a few hundred images of your own, then predict.

python examples/finetune.py data/pets photos/        # a data set in COCO, Roboflow, YOLO or Pascal VOC layout
python examples/finetune.py data/pets photos/ --set model.backbone_weights=tf_efficientnet_lite0.safetensors

The backbone starts from ImageNet weights, which timm downloads at first use; `model.backbone_weights` names a file
instead. Before training, `anchordetr doctor data/pets` shows problems of a data set.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from anchordetr import Detector
from anchordetr.config import parse_assignments
from anchordetr.models.presets import preset, recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="data set folder with the splits train and val")
    parser.add_argument("images", type=Path, help="folder of images to predict")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to the configuration")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/finetune"))
    arguments = parser.parse_args()

    config = preset("anchordetr_v2_small").updated(recipe("finetune")).updated(parse_assignments(arguments.set))
    detector = Detector(config)
    metrics = detector.train(arguments.data, arguments.output_dir, overwrite=True, epochs=arguments.epochs)
    print(f"AP {metrics.ap:.3f}, AP50 {metrics.ap50:.3f}; the best weights are in {arguments.output_dir / 'best'}")

    detector = Detector.from_pretrained(arguments.output_dir)
    for detections in detector.predict_each(arguments.images, threshold=0.3):  # one image after the other
        detections.plot(arguments.output_dir / f"{Path(detections.source).stem}_boxes.png")
        print(f"{detections.source}: {len(detections)} objects {sorted(set(detections.data['class_name']))}")


if __name__ == "__main__":
    main()
