"""What a user probably means by a configuration key that does not exist."""

from __future__ import annotations

from collections.abc import Mapping

from anchordetr.errors import by_user, closest, limited

SYNONYMS = {
    "imgsz": "data.resolution",
    "img_size": "data.resolution",
    "image_size": "data.resolution",
    "input_size": "data.resolution",
    "size": "data.resolution",
    "num_workers": "data.workers",
    "dataloader_num_workers": "data.workers",
    "num_epochs": "train.epochs",
    "max_epochs": "train.epochs",
    "num_train_epochs": "train.epochs",
    "bs": "train.batch_size",
    "batch": "train.batch_size",
    "learning_rate": "train.lr",
    "lr0": "train.lr",
    "lr_backbone": "train.backbone_lr",
    "wd": "train.weight_decay",
    "patience": "train.early_stopping_patience",
    "ema": "train.ema_decay",
    "amp": "train.precision",
    "grad_clip": "train.clip_max_norm",
    "save_period": "train.save_every",
    "num_queries": "model.num_anchors",
    "hidden_dim": "model.embed_dim",
    "enc_layers": "model.encoder_layers",
    "dec_layers": "model.decoder_layers",
    "nc": "model.num_classes",
    "scheduler": "train.schedule",
    "lr_scheduler": "train.schedule",
}
"""Names that other libraries give to a key."""

ELSEWHERE = {
    "output": ("--output-dir", "output_dir"),
    "project": ("--output-dir", "output_dir"),
    "weights": ("--weights", "Detector.from_pretrained"),
    "device": ("--device", "the argument device of Detector"),
    "conf": ("--threshold of predict", "the argument threshold of predict"),
    "conf_thres": ("--threshold of predict", "the argument threshold of predict"),
    "names": ("the classes of the data set", "the argument class_names of Detector"),
}
"""What other libraries' settings are here, where they are no keys: on the command line, and in Python."""

NEEDLESS = {
    **dict.fromkeys(
        ("iou", "iou_thres", "nms", "agnostic_nms"), "The detector predicts each object once; there is no NMS."
    ),
    "optimizer": "The optimizer is AdamW.",
}
"""What other libraries have and this one does without."""


def explain_unknown(key: str, known: Mapping[str, str]) -> str:
    """Return a sentence that names what is probably meant by a key that does not exist.

    Args:
        key: ``section.key``, or the name of a key alone.
        known: the ``section.key`` of the name of each key.
    """
    name = limited(key).rpartition(".")[2]
    start = f"Unknown configuration key '{limited(key)}'"
    if name in known:
        return f"{start}: '{name}' is {known[name]}."
    if name in ELSEWHERE:
        return f"{start}: it is {by_user(*ELSEWHERE[name])}."
    if name in NEEDLESS:
        return f"{start}. {NEEDLESS[name]}"
    all_names = {**SYNONYMS, **known}
    if match := closest(name, all_names):
        meant = all_names[match]
        shown = f"'{meant}'" if "." in key else f"'{meant.rpartition('.')[2]}' ({meant})"  # an argument, as it is given
        return f"{start}. Did you mean {shown}?"
    return f"{start}. 'anchordetr train --help-settings' lists all {len(known)}."
