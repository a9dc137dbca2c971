"""Detector: the one object that most users hold. It trains, evaluates, predicts, saves and loads."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from anchordetr.config import Config, parse_config
from anchordetr.criterion import build_criterion
from anchordetr.data.dataset import DetectionDataset
from anchordetr.data.images import ImageSource, expand_source, is_url, load_image, load_or_skip
from anchordetr.data.layouts import open_dataset
from anchordetr.data.loader import train_loader
from anchordetr.data.preflight import preflight
from anchordetr.data.transforms import eval_transform, prepare_image, train_transform
from anchordetr.engine import checkpoint
from anchordetr.engine.device import choose_device
from anchordetr.engine.evaluator import Metrics, evaluate
from anchordetr.engine.inference import detect
from anchordetr.engine.optim import build_optimizer, build_scheduler
from anchordetr.engine.progress import RichReporter
from anchordetr.engine.trainer import Trainer
from anchordetr.errors import InputError
from anchordetr.models.builders import build_class_head, build_model, preset
from anchordetr.types import Detections

log = logging.getLogger("anchordetr")

_CHUNK = 8


class Detector:
    """An Anchor DETR with its classes and its settings.

    Attributes:
        model: the :class:`~anchordetr.models.anchor_detr.AnchorDETR` module.
        config: the whole :class:`~anchordetr.config.Config`.
        class_names, category_ids: name and data-set id of each class index.

    Args:
        config: a preset's name (see :func:`~anchordetr.list_models`) or a configuration.
        class_names: of the classes to detect; taken from the data set at the first training if not given.
        category_ids: ids to report for the classes; 1, 2, ... if not given.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Raises:
        UsageError: a name is not known.
        InputError: the backbone's weights cannot be loaded.

    Example:
        >>> detector = Detector("anchordetr_tiny", class_names=["cat", "dog"])
        >>> detector.train(data="data/pets", output_dir="runs/pets", epochs=50)
        >>> detections = detector.predict("street.jpg", threshold=0.5)
    """

    def __init__(
        self,
        config: str | Config = "anchordetr_r50_dc5",
        class_names: Sequence[str] | None = None,
        category_ids: Sequence[int] | None = None,
        device: str = "auto",
    ) -> None:
        config = preset(config) if isinstance(config, str) else config
        if class_names is not None:
            config = config.updated({"model.num_classes": len(class_names)})
        count = config.model.num_classes
        self.config = config
        self.class_names = list(class_names or (f"class {index}" for index in range(count)))
        self.category_ids = list(category_ids or range(1, count + 1))
        if len(self.category_ids) != count:
            raise InputError(f"There are {count} class names but {len(self.category_ids)} category ids.")
        self.device = choose_device(device)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(config.train.seed)
            self.model = build_model(config.model).to(self.device).eval()

    # ------------------------------------------------------------------ training

    def train(
        self,
        data: str | Path,
        output_dir: str | Path = "runs/train",
        resume: bool = False,
        overwrite: bool = False,
        **settings: Any,
    ) -> Metrics:
        """Train on a data set, evaluate after each epoch, and keep the ``best`` and the ``last`` model.

        The output folder receives ``best/``, ``last/``, ``log.jsonl`` (one line per epoch) and ``metrics.json``. At the
        end the detector holds the best weights.

        Args:
            data: a folder in a known layout with the splits ``train`` and ``val``, or ``shapes``.
            output_dir: where to write.
            resume: go on from ``output_dir/last``.
            overwrite: replace the run that ``output_dir`` holds.
            settings: keys of :class:`~anchordetr.config.TrainConfig`, such as ``epochs=50``.

        Returns:
            The metrics of the best model.

        Raises:
            UsageError: a setting does not exist.
            InputError: the data cannot be used, there is nothing to resume, or the folder holds a run already.
        """
        self.config = self.config.updated({f"train.{key}": value for key, value in settings.items()})
        output = Path(output_dir)
        train_set, val_set = (self._open(data, split) for split in ("train", "val"))
        if train_set.class_names != val_set.class_names:
            raise InputError(f"{data}: train has the classes {train_set.class_names}, val has {val_set.class_names}.")
        if len(train_set) == 0 or len(val_set) == 0:
            raise InputError(f"{data} has no images in train or in val; training needs both.")
        preflight(train_set, val_set, self.config.model.num_queries)
        self._adopt_classes(train_set)
        if (output / "last").exists() and not (resume or overwrite):
            raise InputError(f"{output} already holds a run; resume it (--resume), or choose another --output-dir.")
        output.mkdir(parents=True, exist_ok=True)
        state = checkpoint.load_state(output / "last") if resume else {"epoch": 0}
        trainer = self._build_trainer(train_set, val_set, output, epochs_done=state["epoch"])
        if resume:
            trainer.load_state_dict(state)
        trainer.fit()
        checkpoint.load_weights(output / "best", self.model)
        self.model.eval()
        evaluated = [entry for entry in trainer.progress.history if "ap" in entry]
        best = max(evaluated, key=lambda entry: entry["ap"])
        metrics = Metrics(**{name: best[name] for name in Metrics.__dataclass_fields__})
        checkpoint.write_json(output / "metrics.json", metrics.to_dict())
        return metrics

    def _open(self, data: str | Path, split: str) -> DetectionDataset:
        return open_dataset(data, split, self.config.data.layout, self.config.data.skip_broken)

    def _adopt_classes(self, dataset: DetectionDataset) -> None:
        """Take over a data set's classes; a class head for other classes is replaced."""
        if self.class_names != dataset.class_names:
            log.warning("The class head is new, for the classes of the data: %s.", ", ".join(dataset.class_names))
            self.config = self.config.updated({"model.num_classes": len(dataset.class_names)})
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(self.config.train.seed)
                self.model.class_head = build_class_head(self.config.model).to(self.device)
        self.class_names, self.category_ids = dataset.class_names, dataset.category_ids

    def _build_trainer(
        self, train_set: DetectionDataset, val_set: DetectionDataset, output: Path, epochs_done: int
    ) -> Trainer:
        settings, data = self.config.train, self.config.data
        torch.manual_seed(settings.seed)
        backbone = self.model.backbone
        loader = train_loader(
            train_set,
            train_transform(data.train_short_sides, data.long_side, data.crop, data.flips),
            (backbone.mean, backbone.std),
            settings.batch_size,
            settings.seed,
            workers=data.workers,
            pin_memory=self.device.type == "cuda",
        )
        optimizer = build_optimizer(self.model, settings.lr, settings.backbone_lr, settings.weight_decay)
        trainer = Trainer(
            model=self.model,
            criterion=build_criterion(self.config.model.num_classes, self.config.loss),
            optimizer=optimizer,
            scheduler=build_scheduler(
                optimizer,
                settings.schedule,
                settings.warmup,
                settings.drop_at,
                total_steps=settings.epochs * len(loader),
            ),
            loader=loader,
            evaluate=lambda: self._evaluate(val_set),
            save=lambda name: self._save_checkpoint(output, name, trainer),
            reporter=RichReporter(settings.epochs, len(loader), epochs_done),
            epochs=settings.epochs,
            eval_every=settings.eval_every,
            clip_norm=settings.clip_norm,
            precision=settings.precision,
        )
        return trainer

    def _save_checkpoint(self, output: Path, name: str, trainer: Trainer) -> None:
        self.save_pretrained(output / name)
        if name == "last":
            checkpoint.save_state(output / name, trainer.state_dict())
            lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in trainer.progress.history]
            checkpoint.write_text(output / "log.jsonl", "".join(lines))

    # ------------------------------------------------------------------ evaluation

    def evaluate(self, data: str | Path, split: str = "val") -> Metrics:
        """Compute COCO's metrics on one split of a data set.

        Raises:
            InputError: the data cannot be used, or has other classes than this detector.
        """
        dataset = self._open(data, split)
        if dataset.class_names != self.class_names:
            raise InputError(f"{data} has the classes {dataset.class_names}, this detector {self.class_names}.")
        return self._evaluate(dataset)

    def _evaluate(self, dataset: DetectionDataset) -> Metrics:
        return evaluate(
            self.model,
            dataset,
            self._eval_transform(),
            batch_size=self.config.train.batch_size,
            workers=self.config.data.workers,
            precision=self.config.train.precision,
        )

    def _eval_transform(self) -> Any:
        data, backbone = self.config.data, self.model.backbone
        return eval_transform(data.short_side, data.long_side, backbone.mean, backbone.std)

    # ------------------------------------------------------------------ prediction

    def predict(
        self, source: ImageSource | Sequence[ImageSource], threshold: float = 0.5
    ) -> Detections | list[Detections]:
        """Detect objects.

        Args:
            source: a path, URL, PIL picture, RGB uint8 array (H, W, 3) or tensor (3, H, W): one answer. A list, a
                folder or a glob pattern: a list of answers.
            threshold: only scores of at least this are returned.

        Raises:
            InputError: a picture cannot be read; the message names it.
        """
        if isinstance(source, (list, tuple)):
            if not source:
                raise InputError("The list of images is empty; give at least one image.")
            return list(self.predict_each(source, threshold))
        if isinstance(source, (str, Path)) and not is_url(source) and not Path(source).is_file():
            return list(self.predict_each(expand_source(source), threshold))
        return next(self.predict_each([cast(ImageSource, source)], threshold))

    def predict_each(
        self, sources: Sequence[ImageSource], threshold: float = 0.5, skip_broken: bool = False
    ) -> Iterator[Detections]:
        """Detect objects in one picture after the other, a few at a time in memory; arguments as in :meth:`predict`.

        With ``skip_broken`` a picture that cannot be read is named in a warning and gives no answer.
        """
        self.model.eval()
        transform = self._eval_transform()
        for start in range(0, len(sources), _CHUNK):
            chunk = sources[start : start + _CHUNK]
            load = load_or_skip if skip_broken else load_image
            read = [(source, image) for source in chunk if (image := load(source)) is not None]
            images = [image for _, image in read]
            sizes = [(image.shape[-2], image.shape[-1]) for image in images]
            prepared = [prepare_image(image, transform) for image in images]
            for (source, image), found in zip(read, detect(self.model, prepared, sizes), strict=True):
                detections = found[found.confidence >= threshold]
                detections.image = image.permute(1, 2, 0).numpy()
                detections.source = str(source) if isinstance(source, (str, Path)) else None
                detections.data["class_name"] = np.array(self.class_names)[detections.class_id]
                detections.data["category_id"] = np.array(self.category_ids)[detections.class_id]
                yield detections

    # ------------------------------------------------------------------ saving and loading

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``; files of these names are replaced."""
        config = self.config.model_dump(mode="json")
        classes = {"class_names": self.class_names, "category_ids": self.category_ids}
        checkpoint.save_model(Path(folder), self.model, {**classes, **config})

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str = "auto") -> Detector:
        """Load what :meth:`save_pretrained` or training wrote.

        Args:
            folder: a model folder, or a run's output folder (its ``best`` is taken).

        Raises:
            InputError: there is no model, or it is damaged or of another version.
        """
        path = Path(folder)
        if not (path / checkpoint.CONFIG_FILE).is_file() and (path / "best").is_dir():
            path = path / "best"
        values = checkpoint.read_model_config(path)
        class_names, category_ids = values.pop("class_names"), values.pop("category_ids")
        values["model"] |= {"pretrained_backbone": False, "backbone_weights": None}
        detector = cls(parse_config(values), class_names, category_ids, device)
        checkpoint.load_weights(path, detector.model)
        return detector
