"""Plug in a part of your own: anchor points spread evenly over the image, in any number.

python examples/plugin.py                    # an epoch on generated images, a minute on 2 cores
python examples/plugin.py --data path/to/coco --epochs 20

Attentions, query sources, position encoders, backbones and data layouts are registered in the same way
(docs/extending.md, which also says how an installed package makes its parts known to the command line).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from anchordetr import Detector
from anchordetr.models.presets import preset
from anchordetr.registry import ANCHORS

PLASTIC_NUMBER = 1.32471795724474602596


@ANCHORS.register("even")
class EvenAnchors(nn.Module):
    """Fixed anchor points of the R2 sequence (Roberts, 2018), which covers the image evenly.

    The grid of the library rounds the number of anchors to a square; this takes any.
    """

    points: Tensor

    def __init__(self, num_anchors: int) -> None:
        super().__init__()
        index = torch.arange(1, num_anchors + 1, dtype=torch.float64).unsqueeze(1)
        steps = PLASTIC_NUMBER ** -torch.tensor([1.0, 2.0], dtype=torch.float64)
        self.register_buffer("points", ((0.5 + index * steps) % 1).float(), persistent=False)

    def forward(self) -> Tensor:
        """Return (A, 2): x, y in [0, 1]."""
        return self.points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="shapes", help="data set folder, or 'shapes'")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--output-dir", type=Path, default=Path("runs/plugin"))
    arguments = parser.parse_args()

    config = preset("anchordetr_tiny").updated({"model.anchors": "even", "model.num_anchors": 40})
    detector = Detector(config)
    metrics = detector.train(arguments.data, arguments.output_dir, overwrite=True, epochs=arguments.epochs)
    print(f"AP {metrics.ap:.3f}, AP50 {metrics.ap50:.3f} with {config.model.num_anchors} anchors")

    detector = Detector.from_pretrained(arguments.output_dir)  # needs the class to be registered
    assert detector.config.model.anchors == "even"


if __name__ == "__main__":
    main()
