"""Detector: the one object that most users hold. It trains, evaluates, predicts, saves and loads."""

from __future__ import annotations

import contextlib
import copy
import logging
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import nn

from anchordetr.config import Config
from anchordetr.console import say
from anchordetr.data.dataset import DetectionDataset
from anchordetr.data.images import ImageSource, expand_source, is_url, load_image, load_or_skip
from anchordetr.data.layouts.opening import open_dataset
from anchordetr.data.preflight import preflight
from anchordetr.data.transforms import eval_transform, prepare_image
from anchordetr.detections import Detections
from anchordetr.device import choose_device, repeatable
from anchordetr.distributed import World, is_main_process, joined
from anchordetr.errors import InputError, UsageError
from anchordetr.evaluation.coco import Metrics, evaluate
from anchordetr.files import write_json, write_text
from anchordetr.layers.recompute import recomputing
from anchordetr.models.builders import build_model
from anchordetr.models.class_modules import class_modules, replace_class_modules
from anchordetr.models.presets import preset
from anchordetr.optimize.budget import Budget
from anchordetr.predictor import PreparedCopy, detect
from anchordetr.training.report import write_report
from anchordetr.training.run import build_trainer, check_folder, resume_state, try_out
from anchordetr.training.trainer import Trainer
from anchordetr.visualize.plots import plot_details, plot_history
from anchordetr.weights.class_transfer import copy_rows, transfer_table
from anchordetr.weights.hub import CARD_FILE, model_card, push_folder
from anchordetr.weights.pretrained import load_pretrained
from anchordetr.weights.saved_model import SavedModel, load_weights, read_model, write_model

log = logging.getLogger("anchordetr")

_CHUNK = 8
_SAMPLES = 4


class Detector:
    """An Anchor DETR with its classes and its settings.

    Attributes:
        model: the :class:`~anchordetr.models.anchor_detr.AnchorDETR` module.
        config: the whole :class:`~anchordetr.config.Config`.
        class_names, category_ids: name and data-set id of each class index.
        origin: where the weights come from: source, data, command, metrics, versions; whatever is known.

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
        self.origin: dict[str, Any] = {}
        self._unused_classes: dict[str, torch.Tensor] = {}
        self.device = choose_device(device)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(config.train.seed)
            self.model = build_model(config.model).to(self.device).eval()
        self._prepared = PreparedCopy()

    # ------------------------------------------------------------------ training

    def train(
        self,
        data: str | Path,
        output_dir: str | Path = "runs/train",
        resume: bool = False,
        overwrite: bool = False,
        match_classes: Literal["name", "none"] = "name",
        accept_changes: bool = False,
        **settings: Any,
    ) -> Metrics:
        """Train on a data set, evaluate after each epoch, and keep the ``best`` and the ``last`` model.

        The output folder receives ``best/``, ``last/``, ``log.jsonl`` and ``log.csv`` (one line per epoch) and
        ``metrics.json``. At the end the detector holds the best weights. Under ``torchrun`` all processes call this
        alike; the first one writes.

        Args:
            data: a folder in a known layout with the splits ``train`` and ``val``, or ``shapes``.
            output_dir: where to write.
            resume: go on from ``output_dir/last``, with the step after the last one that it holds.
            overwrite: replace the run that ``output_dir`` holds.
            match_classes: if the data has other classes than this detector, the class head is new; ``name`` copies the
                rows of classes of the same name, ``none`` copies nothing.
            accept_changes: resume although the configuration has changed.
            settings: keys of :class:`~anchordetr.config.TrainConfig`, such as ``epochs=50``.

        Returns:
            The metrics of the best model.

        Raises:
            UsageError: a setting or a value does not exist.
            InputError: the data cannot be used, there is nothing to resume, or the folder holds a run already.
            Stopped: SIGINT or SIGTERM came; everything up to the last whole step is saved.
            NonFiniteError: a loss or a gradient is not finite; no weight was changed, and the step is kept.
        """
        self.config = self.config.updated({f"train.{key}": value for key, value in settings.items()})
        if match_classes not in ("name", "none"):
            raise UsageError(f"match_classes is '{match_classes}'; it must be 'name' or 'none'.")
        output = Path(output_dir)
        train_set, val_set = self._open_splits(data)
        check_folder(output, resume, overwrite)
        self._adopt_classes(train_set, match_classes)
        self._note_origin(data)
        self._prepared.drop()
        state = resume_state(output, self.config, accept_changes) if resume else None
        with joined(self.device) as world, repeatable(self.config.train.deterministic):
            trainer = self._build_trainer(train_set, val_set, output, world, state)
            with recomputing(self.model.layers if self.config.train.gradient_checkpointing else []):
                trainer.fit()
        load_weights(self.model, read_model(output / "best").weights, str(output / "best"))
        self.model.eval()
        metrics = trainer.progress.best_metrics()
        self.origin["metrics"] = metrics.to_dict()
        if world.is_main:
            write_json(output / "metrics.json", metrics.to_dict())
            self._report(output, replace(metrics, details=trainer.details), trainer.progress.history, val_set)
        return metrics

    def dry_run(self, data: str | Path, **settings: Any) -> dict[str, Any]:
        """Do one step of everything that training does, on a copy of this detector and in a folder that is removed.

        Args:
            data, settings: as in :meth:`train`.

        Returns:
            The plan: numbers of images, classes and steps, sizes, the time of a step and of all steps, memory.

        Raises:
            UsageError, InputError: as :meth:`train` does.
        """
        probe = copy.deepcopy(self)
        probe.config = self.config.updated({f"train.{key}": value for key, value in settings.items()})
        train_set, val_set = probe._open_splits(data)
        probe._adopt_classes(train_set, "name")
        probe._note_origin(data)
        with tempfile.TemporaryDirectory() as folder, joined(self.device) as world:
            trainer = probe._build_trainer(train_set, val_set, Path(folder), world, state=None)
            plan = try_out(trainer, Path(folder))
        start = time.perf_counter()
        probe.predict(val_set.image(0))
        prediction = time.perf_counter() - start
        return {
            "training images": len(train_set),
            "validation images": len(val_set),
            "classes": len(probe.class_names),
            **plan,
            "seconds of the first prediction": round(prediction, 3),
        }

    def _build_trainer(
        self,
        train_set: DetectionDataset,
        val_set: DetectionDataset,
        output: Path,
        world: World,
        state: Mapping[str, Any] | None,
    ) -> Trainer:
        return build_trainer(
            model=self.model,
            config=self.config,
            train_set=train_set,
            evaluate=lambda model: self._validate(model, val_set, world),
            save_model=lambda folder, model: write_model(folder, self._at_rest(model)),
            folder=output,
            world=world,
            state=state,
        )

    def _report(
        self, output: Path, metrics: Metrics, history: Sequence[Mapping[str, Any]], dataset: DetectionDataset
    ) -> None:
        """Write the page of a run: curves where matplotlib is installed, and a few predictions."""
        figures: dict[str, list[Path]] = {"samples": []}
        folder = output / "report"
        folder.mkdir(exist_ok=True)
        images = [dataset.image(index) for index in range(min(_SAMPLES, len(dataset)))]
        for index, found in enumerate(self.predict_each(images, threshold=0.3)):
            figures["samples"].append(folder / f"sample_{index}.jpg")
            found.plot(figures["samples"][-1])
        with contextlib.suppress(InputError):
            plot_history(history, folder / "curves.png")
            figures["curves"] = [folder / "curves.png"]
            if metrics.details is not None:
                details = metrics.details
                figures["curves"] += plot_details(details.precision, details.confusion(), self.class_names, folder)
        write_report(output, metrics, history, self.origin, self.config, figures)

    def _open_splits(self, data: str | Path) -> tuple[DetectionDataset, DetectionDataset]:
        train_set, val_set = (self._open(data, split) for split in ("train", "val"))
        if train_set.class_names != val_set.class_names:
            raise InputError(f"{data}: train has the classes {train_set.class_names}, val has {val_set.class_names}.")
        if len(train_set) == 0 or len(val_set) == 0:
            raise InputError(f"{data} has no images in train or in val; training needs both.")
        if is_main_process():
            preflight(train_set, val_set, self.config.model.num_queries)
        return train_set, val_set

    def _open(self, data: str | Path, split: str) -> DetectionDataset:
        return open_dataset(data, split, self.config.data.layout, self.config.data.skip_broken)

    def _adopt_classes(self, dataset: DetectionDataset, match: str) -> None:
        """Take over a data set's classes; what has a row for each class is replaced if they are others."""
        names = dataset.class_names
        if self.class_names != names or match == "none":
            self.config = self.config.updated({"model.num_classes": len(names)})
            old = class_modules(self.model)
            replace_class_modules(self.model, len(names), self.config.train.seed)
            copied = []
            if match == "name":
                for key, module in class_modules(self.model).items():
                    copied = copy_rows(old[key], self.class_names, module, names)
            self.model.to(self.device)
            if self.origin:
                say(transfer_table(self.model, copied, names))
            else:
                log.warning("The class head is new, for the classes of the data: %s.", ", ".join(names))
        self.class_names, self.category_ids, self._unused_classes = names, dataset.category_ids, {}

    def _note_origin(self, data: str | Path) -> None:
        before = {key: self.origin[key] for key in ("source", "data") if key in self.origin}
        self.origin = {
            **({"started_from": before} if before else {}),
            "data": str(data),
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "versions": {"anchordetr": version("anchordetr"), "torch": torch.__version__},
        }

    def _validate(self, model: nn.Module, dataset: DetectionDataset, world: World) -> Metrics:
        metrics = self._evaluate(dataset, model, world)
        self.origin["metrics"] = metrics.to_dict()
        return metrics

    # ------------------------------------------------------------------ evaluation

    def evaluate(
        self,
        data: str | Path,
        split: str = "val",
        anchors: int | None = None,
        patterns: int | Sequence[int] | None = None,
        layers: int | None = None,
    ) -> Metrics:
        """Compute COCO's metrics on one split of a data set.

        Args:
            data, split: as in :meth:`train`.
            anchors, patterns, layers: as in :meth:`predict`.

        Raises:
            InputError: the data cannot be used, or has other classes than this detector.
            UsageError: the network has fewer anchors, patterns or layers.
        """
        model = self._prepared.of(self.model, Budget(anchors, patterns, layers))
        dataset = self._open(data, split)
        if dataset.class_names != self.class_names:
            raise InputError(f"{data} has the classes {dataset.class_names}, this detector {self.class_names}.")
        with joined(self.device) as world:
            return self._evaluate(dataset, model, world)

    def _evaluate(self, dataset: DetectionDataset, model: nn.Module, world: World) -> Metrics:
        return evaluate(
            model,
            dataset,
            self._eval_transform(),
            batch_size=self.config.train.batch_size,
            workers=self.config.data.workers,
            precision=self.config.train.precision,
            world=world,
        )

    def _eval_transform(self) -> Any:
        data, backbone = self.config.data, self.model.backbone
        return eval_transform(data.short_side, data.long_side, backbone.mean, backbone.std)

    # ------------------------------------------------------------------ prediction

    def predict(
        self,
        source: ImageSource | Sequence[ImageSource],
        threshold: float = 0.5,
        anchors: int | None = None,
        patterns: int | Sequence[int] | None = None,
        layers: int | None = None,
    ) -> Detections | list[Detections]:
        """Detect objects.

        Args:
            source: a path, URL, PIL image, RGB uint8 array (H, W, 3) or tensor (3, H, W): one answer. A list, a
                folder or a glob pattern: a list of answers.
            threshold: only scores of at least this are returned.
            anchors: use so many of the anchors, spread evenly among all.
            patterns: use so many of the patterns, the first ones; or those of these numbers.
            layers: use so many of the decoder layers, the first ones. Less takes less time and finds less.

        Raises:
            InputError: an image cannot be read; the message names it.
            UsageError: the network has fewer anchors, patterns or layers.
        """
        each = partial(self.predict_each, threshold=threshold, anchors=anchors, patterns=patterns, layers=layers)
        if isinstance(source, (list, tuple)):
            if not source:
                raise InputError("The list of images is empty; give at least one image.")
            return list(each(source))
        if isinstance(source, (str, Path)) and not is_url(source) and not Path(source).is_file():
            return list(each(expand_source(source)))
        return next(each([cast(ImageSource, source)]))

    def predict_each(
        self,
        sources: Sequence[ImageSource],
        threshold: float = 0.5,
        skip_broken: bool = False,
        anchors: int | None = None,
        patterns: int | Sequence[int] | None = None,
        layers: int | None = None,
    ) -> Iterator[Detections]:
        """Detect objects in one image after the other, a few at a time in memory; arguments as in :meth:`predict`.

        With ``skip_broken`` an image that cannot be read is named in a warning and gives no answer.
        """
        self.model.eval()
        model = self._prepared.of(self.model, Budget(anchors, patterns, layers))
        transform = self._eval_transform()
        for start in range(0, len(sources), _CHUNK):
            chunk = sources[start : start + _CHUNK]
            load = load_or_skip if skip_broken else load_image
            read = [(source, image) for source in chunk if (image := load(source)) is not None]
            images = [image for _, image in read]
            sizes = [(image.shape[-2], image.shape[-1]) for image in images]
            prepared = [prepare_image(image, transform) for image in images]
            for (source, image), found in zip(read, detect(model, prepared, sizes), strict=True):
                detections = found[found.confidence >= threshold]
                detections.image = image.permute(1, 2, 0).numpy()
                detections.source = str(source) if isinstance(source, (str, Path)) else None
                detections.data["class_name"] = np.array(self.class_names)[detections.class_id]
                detections.data["category_id"] = np.array(self.category_ids)[detections.class_id]
                yield detections

    # ------------------------------------------------------------------ saving and loading

    def save_pretrained(self, folder: str | Path, precision: str = "fp32") -> None:
        """Write ``config.json`` and ``model.safetensors``; files of these names are replaced.

        Args:
            folder: made if needed.
            precision: ``fp32``, or ``fp16`` or ``bf16`` for half the size; norms, biases and anchors keep float32.

        Raises:
            UsageError: there is no such precision.
        """
        write_model(Path(folder), self._at_rest(), precision)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        device: str = "auto",
        features: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Detector:
        """Load a trained detector.

        Args:
            source: what :meth:`save_pretrained`, training or ``anchordetr convert`` wrote (of a run's output folder the
                ``best`` is taken); a checkpoint file of the original implementation or of detrex, whose pickle is not
                run; the name of a preset with published weights, which are fetched once; or a repository on the
                Hugging Face hub.
            device: ``auto``, ``cpu``, ``cuda``, ...
            features: ``c5`` or ``dc5``, for a checkpoint file that does not tell.
            settings: changes to the saved configuration, such as ``{"train.lr": 1e-4}``.

        Raises:
            InputError: there is no model, it is damaged, of another version or architecture, or cannot be fetched.
            UsageError: a setting does not exist.
        """
        saved = load_pretrained(source, features)
        config = saved.config.updated(settings or {})
        detector = cls(config, saved.class_names, saved.category_ids, device)
        load_weights(detector.model, saved.weights, str(source))
        detector.origin = saved.origin or {"source": str(source)}
        detector._unused_classes = saved.unused_classes
        return detector

    def push_to_hub(
        self, repo_id: str, private: bool = False, token: str | None = None, precision: str = "fp32"
    ) -> str:
        """Upload the detector and its model card to the Hugging Face hub; a card that is there already is kept.

        Args:
            repo_id: ``user/name``; made if needed.
            private: whether a new repository is private.
            token: of the hub; by default the one that ``hf auth login`` left.
            precision: see :meth:`save_pretrained`.

        Returns:
            The address of the repository.

        Raises:
            InputError: the hub refuses or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, precision)
            write_text(Path(folder) / CARD_FILE, self.model_card(repo_id))
            return push_folder(Path(folder), repo_id, private, token)

    def model_card(self, title: str) -> str:
        """Return the text of a model card: classes, metrics, data set, command, versions."""
        return model_card(self._at_rest(), title)

    def _at_rest(self, model: nn.Module | None = None) -> SavedModel:
        weights = (model or self.model).state_dict()
        return SavedModel(self.config, self.class_names, self.category_ids, weights, self.origin, self._unused_classes)
