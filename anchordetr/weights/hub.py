"""Download from and upload to the Hugging Face hub, and model cards."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData, constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from anchordetr.errors import InputError, reason
from anchordetr.markdown import code, escaped
from anchordetr.web import is_reachable, only_errors
from anchordetr.weights.description import SavedModel
from anchordetr.weights.folder import CONFIG_FILE, UNUSED_FILE, WEIGHTS_FILE

CARD_FILE = "README.md"
_METRICS = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP small",
    "ap_medium": "AP medium",
    "ap_large": "AP large",
}
_TEXT = """
# {title}

An [Anchor DETR](https://arxiv.org/abs/2109.07107) for {count} classes, made with `anchordetr`.

```python
from anchordetr import Detector

detections = Detector.from_pretrained("{title}").predict("street.jpg")
```

{metrics}

| | |
|---|---|
{facts}

Classes: {classes}.
"""


def fetch_from_hub(repo_id: str) -> Path:
    """Return the local folder of a model downloaded from the hub, or before, if the hub cannot be reached.

    Raises:
        InputError: the model does not exist, or there is no network.
    """
    endpoint = constants.ENDPOINT
    is_offline = not constants.HF_HUB_OFFLINE and not is_reachable(endpoint)
    fetch = partial(hf_hub_download, repo_id, local_files_only=is_offline)
    with only_errors("huggingface_hub"):
        try:
            config = fetch(CONFIG_FILE)
            fetch(WEIGHTS_FILE)
        except Exception as error:
            why = f"{endpoint} cannot be reached" if is_offline else reason(error)
            raise InputError(
                f"'{repo_id}' is not a local folder, and the Hugging Face hub does not provide it ({why})."
            ) from error
        with contextlib.suppress(EntryNotFoundError):
            fetch(UNUSED_FILE)
    return Path(config).parent


def push_folder(folder: Path, repo_id: str, private: bool, token: str | None) -> str:
    """Upload a model folder and return its URL; an existing model card of the repository is kept.

    Raises:
        InputError: the hub refuses the upload, or there is no network.
    """
    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        kept = [CARD_FILE] if api.file_exists(repo_id, CARD_FILE) else []
        api.upload_folder(repo_id=repo_id, folder_path=folder, ignore_patterns=kept)
    except Exception as error:
        raise InputError(f"'{repo_id}' could not be uploaded to the Hugging Face hub ({reason(error)}).") from error
    return f"{api.endpoint}/{repo_id}"


def model_card(saved: SavedModel, title: str) -> str:
    """Return the text of a model card: classes, metrics, architecture and origin."""
    origin = saved.origin
    metrics = {name: value for name, value in origin.get("metrics", {}).items() if name in _METRICS and value >= 0}
    data = ModelCardData(
        library_name="anchordetr",
        pipeline_tag="object-detection",
        tags=["object-detection", "anchor-detr", "detr"],
        model_name=title,
        eval_results=[
            EvalResult(
                task_type="object-detection",
                dataset_type="custom",
                dataset_name=str(origin.get("data", "unknown")),
                metric_type=name,
                metric_name=_METRICS[name],
                metric_value=value,
            )
            for name, value in metrics.items()
        ]
        or None,
    )
    text = _TEXT.format(
        title=title,
        count=len(saved.class_names),
        classes=", ".join(map(escaped, saved.class_names)),
        metrics=_metrics_table(metrics, origin),
        facts="\n".join(f"| {name} | {value} |" for name, value in _facts(saved).items()),
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n{text}"))


def _metrics_table(metrics: dict[str, float], origin: dict[str, Any]) -> str:
    if not metrics:
        return "The model has not been evaluated."
    header, values = zip(*((_METRICS[name], f"{value:.3f}") for name, value in metrics.items()), strict=True)
    rows = (header, ("---",) * len(header), values)
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"COCO metrics on the validation images of {escaped(str(origin.get('data', 'its data set')))}:\n\n{table}"


def _facts(saved: SavedModel) -> dict[str, str]:
    model, origin = saved.config.model, saved.origin
    facts = {
        "backbone": model.backbone,
        "features": model.features,
        "queries": f"{model.num_anchors} anchors × {max(model.num_patterns, 1)} patterns",
        "layers": f"{model.encoder_layers} encoder, {model.decoder_layers} decoder",
    }
    if f1 := origin.get("metrics", {}).get("f1", 0):
        facts["threshold"] = f"{saved.threshold:g} (highest F1 on the validation images: {f1:.3f})"
    facts |= {name: escaped(str(origin[name])) for name in ("data", "source", "sha256") if name in origin}
    facts |= {"command": code(origin["command"]).replace("|", r"\|")} if "command" in origin else {}
    return facts | {name: str(value) for name, value in origin.get("versions", {}).items()}
