"""Settings with which the benchmarks train a network in seconds."""

from __future__ import annotations

SMALL = [
    "model.backbone=test_resnet.r160_in1k",
    "model.pretrained_backbone=false",
    "model.features=c4",
    "model.embed_dim=32",
    "model.num_heads=4",
    "model.decoder_layers=2",
    "data.short_side=48",
    "data.train_short_sides=[48]",
    "train.eval_every=1",
    "train.batch_size=4",
    "train.lr_batch_size=4",
]
