"""The class ``Detector``, which trains, evaluates, predicts, saves and loads an Anchor DETR."""

from __future__ import annotations

import copy
import math
import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack, overload

from torch import nn

from anchordetr.config import Config, merged, parse_config
from anchordetr.config.keywords import Settings
from anchordetr.data.dataset import DetectionDataset
from anchordetr.data.images import ImageSource
from anchordetr.detections import Detections
from anchordetr.device import Device, choose_device
from anchordetr.distributed import ProcessGroup, process_group
from anchordetr.errors import InputError, UsageError, by_user, classes, reason
from anchordetr.evaluation.coco import evaluate
from anchordetr.metrics import Metrics
from anchordetr.optimize.budget import Budget
from anchordetr.prediction_options import (
    PredictOptions,
    Threshold,
    class_indices,
    known_options,
    require_count,
    require_precision,
)
from anchordetr.predictor import Predictor, counted, detect, transform_for
from anchordetr.progress import progress
from anchordetr.training.builder import open_trainer
from anchordetr.training.callbacks import Callback, require_callbacks
from anchordetr.training.data import advise_recipe, open_split, open_splits
from anchordetr.training.data_facts import describe_data
from anchordetr.training.dry_run import dry_run
from anchordetr.training.folder import run_folder, run_lock
from anchordetr.training.interrupts import checked
from anchordetr.training.report import describe_origin
from anchordetr.training.run import TrainingRun
from anchordetr.training.state import load_state
from anchordetr.visualize.report import plot_report
from anchordetr.weights.class_transfer import MatchClasses
from anchordetr.weights.description import read_classes
from anchordetr.weights.pretrained_model import PretrainedModel

OneOfSeveral = TypeVar("OneOfSeveral", bound=ImageSource)


class Detector(PretrainedModel):
    """An Anchor DETR with its classes and its settings.

    Args:
        config: a preset's name (see :func:`~anchordetr.list_models`) or a :class:`~anchordetr.config.Config`.
        class_names: of the classes to detect; taken from the data set at the first training if not given.
        category_ids: ids to report for the classes; 1, 2, ... if not given.
        device: ``auto``, ``cpu``, ``cuda``, ``1`` for the second GPU; see :func:`~anchordetr.device.choose_device`.
        recipe: changes for a kind of data, such as ``finetune``; see :func:`~anchordetr.recipe`.
        settings: changes to the configuration after the recipe's, such as ``{"data.resolution": 640}``.

    Attributes:
        model: the :class:`~anchordetr.models.anchor_detr.AnchorDETR` module.
        config, class_names, category_ids: all settings; name and data-set id of each class index.
        origin: where the weights come from: source, data, command, metrics, versions; whatever is known.
        threshold, class_thresholds: the scores with the highest F1 on the validation images of the training, of all
            classes together and of single ones by name; 0.5 and ``{}`` if it is not known.

    Raises:
        UsageError: a name is unknown.
        InputError: the backbone's weights cannot be loaded.
    """

    _data_of_run: str | None = None

    def train(
        self,
        data: str | Path | None = None,
        output_dir: str | Path = "runs/train",
        resume: bool = False,
        overwrite: bool = False,
        match_classes: MatchClasses = "name",
        accept_changes: bool = False,
        callbacks: Sequence[Callback] = (),
        settings: Mapping[str, Any] | None = None,
        **keys: Unpack[Settings],
    ) -> Metrics:
        """Train on a data set, evaluate after each epoch, and load the best weights at the end; return their metrics.

        Args:
            data: a folder, ``data.yaml``, COCO's JSON or a ``.zip`` in a known layout (docs/data.md), or ``shapes``; if
                not given, that of the run for a detector of :meth:`from_run`.
            output_dir: receives ``best/``, ``last/``, ``log.jsonl``, ``log.csv``, ``metrics.json`` and ``report.md``.
            resume, overwrite: continue the run in ``output_dir``, or replace it.
            match_classes: for data with other classes, ``name`` keeps the class head's rows for classes of equal name.
            accept_changes: resume although the configuration has changed.
            callbacks: called during training; see :class:`~anchordetr.training.callbacks.Callback`.
            settings, keys: changes to the configuration: ``{"train.epochs": 50}`` or ``epochs=50, resolution=640``.

        Raises:
            UsageError: a setting is unknown, or its value is invalid, or ``callbacks`` is no list of callbacks.
            InputError: the data cannot be used, there is nothing to resume, or the folder holds a run already.
            Stopped: SIGINT or SIGTERM was received; everything up to the last whole step is saved.
            NonFiniteError: a loss or a gradient is not finite; no weight was changed, and the step is saved.
        """
        require_callbacks(callbacks)
        self.config = self.config.updated(merged(settings or {}, keys))
        data = self._data_or_that_of_run(data)
        train_set, val_set = open_splits(data, self.config)
        if not resume:
            advise_recipe(train_set, self.config, data, bool(self.origin))
        with run_folder(folder := Path(output_dir), resume, overwrite):
            config = self.config.updated({"model.num_classes": len(train_set.class_names)})
            origin = describe_origin(data, self.origin)
            identity = {
                "class_names": train_set.class_names,
                "category_ids": train_set.category_ids,
                "started_from": origin.get("started_from", {}),
                "data": describe_data(data, train_set, val_set),
            }
            run = TrainingRun(folder, config, self._write_network, identity)
            state = run.load_state(accept_changes) if resume else None
            self._adopt_classes(train_set.class_names, train_set.category_ids, match_classes)
            self.origin = origin
            self._prepared.drop()
            validate = partial(self._validate, val_set)
            with open_trainer(self.model, train_set, validate, run, state, callbacks) as trainer:
                metrics = trainer.fit()
            self._load_weights(folder / "best")
            self.refresh()
            self._adopt_metrics(metrics)
            if trainer.process_group.is_main:
                draw = partial(self._draw_report, run, val_set)
                run.finish(metrics, trainer.progress.history, self.origin, trainer.outcome, draw)
        return metrics

    @classmethod
    def from_run(cls, folder: str | Path, device: Device = "auto", settings: Mapping[str, Any] | None = None) -> Self:
        """Return the detector of a run that was stopped, as its :meth:`train` with ``resume`` needs it.

        Args:
            folder: the output folder of the run.
            device, settings: as in :meth:`from_pretrained`.

        Raises:
            InputError: there is no run, its state is damaged, or another process is training it.
            UsageError: a setting does not exist.
        """
        state_folder = Path(folder) / "last"
        with run_lock(Path(folder)) if Path(folder).is_dir() else nullcontext():
            state = load_state(state_folder)
        config, names, ids, origin = _identity_in(state, str(state_folder))
        device = choose_device(device)
        config = config.model_copy(update={"model": config.model.without_pretraining()}).updated(settings or {})
        try:
            detector = cls(config, names, ids, device)
        except UsageError as error:
            raise UsageError(f"The detector of {state_folder} cannot be built: {error}") from error
        detector.origin = origin
        detector._data_of_run = _data_in(state)
        return detector

    def dry_run(
        self, data: str | Path | None = None, settings: Mapping[str, Any] | None = None, **keys: Unpack[Settings]
    ) -> dict[str, Any]:
        """Try everything that :meth:`train` does once, with a copy of this detector, and keep nothing.

        Arguments and errors are those of :meth:`train`.

        Returns:
            The plan: numbers of images, classes and steps, sizes, the time of a step and of the whole run, memory.
        """
        probe = copy.deepcopy(self)
        probe.config = self.config.updated(merged(settings or {}, keys))
        data = self._data_or_that_of_run(data)
        train_set, val_set = open_splits(data, probe.config)
        advise_recipe(train_set, probe.config, data, bool(self.origin))
        probe._adopt_classes(train_set.class_names, train_set.category_ids, "name")
        with tempfile.TemporaryDirectory() as folder:
            run = TrainingRun(Path(folder), probe.config, probe._write_network)
            with open_trainer(probe.model, train_set, partial(probe._validate, val_set), run) as trainer:
                plan = dry_run(trainer)
        start = time.perf_counter()
        probe.predict(val_set.image(0))
        plan["seconds of the first prediction"] = round(time.perf_counter() - start, 3)
        images = {"training images": len(train_set), "validation images": len(val_set)}
        return {**images, "classes": len(probe.class_names), **plan}

    def evaluate(
        self,
        data: str | Path,
        split: str = "val",
        anchors: int | None = None,
        patterns: int | Sequence[int] | None = None,
        layers: int | None = None,
        *,
        batch_size: int | None = None,
        precision: str = "fp32",
        resolution: int | None = None,
        show_progress: bool = False,
    ) -> Metrics:
        """Compute COCO's metrics of what :meth:`predict` returns for one split of a data set.

        Args:
            data, split: as in :meth:`train`.
            anchors, patterns, layers, precision, resolution: as in :meth:`predict`.
            batch_size: images computed at once; ``train.batch_size`` if None.
            show_progress: show it on stderr.

        Raises:
            InputError: the data cannot be used, or has other classes than this detector.
            UsageError: the network has fewer anchors, patterns or layers, or a value is invalid.
        """
        dataset = open_split(data, split, self.config)
        if dataset.class_names != self.class_names:
            raise InputError(
                f"{data} has {classes(dataset.class_names)}, this detector has {classes(self.class_names)}; evaluate "
                "it on data with the same classes in the same order."
            )
        predictor = self._predictor(anchors, patterns, layers, batch_size, precision, resolution=resolution)
        with process_group(self.device) as group:
            images = math.ceil(len(dataset) / group.size)
            with progress("eval", images, show_progress and group.is_main) as advance:
                backend, size = counted(predictor.backend, advance), batch_size or self.config.train.batch_size
                return evaluate(backend, dataset, predictor.transform, size, self.config.data.workers, group)

    @overload
    def predict(
        self,
        source: ImageSource,
        threshold: Threshold = None,
        *,
        keep_images: bool | None = None,
        **options: Unpack[PredictOptions],
    ) -> Detections: ...
    @overload
    def predict(
        self,
        source: list[OneOfSeveral] | tuple[OneOfSeveral, ...] | Iterator[OneOfSeveral],
        threshold: Threshold = None,
        *,
        keep_images: bool | None = None,
        **options: Unpack[PredictOptions],
    ) -> list[Detections]: ...
    def predict(
        self,
        source: ImageSource | Iterable[ImageSource],
        threshold: Threshold = None,
        *,
        keep_images: bool | None = None,
        **options: Unpack[PredictOptions],
    ) -> Detections | list[Detections]:
        """Detect objects: one image in, one :class:`~anchordetr.detections.Detections` out; several in, a list out.

        A folder or a glob pattern gives a list too, which a type checker cannot know of a text; :meth:`predict_each`
        has the same type for all sources.

        Args:
            source: a path, URL, the content of a file (bytes, or an object with ``read``), PIL image, RGB uint8 array
                (H, W, 3) or tensor (3, H, W). Or several: a list, tuple or iterator of these, a folder, a glob pattern.
            threshold: lowest score that is returned, for all classes or by class name; ``detector.threshold`` where
                none is given.
            keep_images: whether ``detections.image`` is kept, which :meth:`~anchordetr.detections.Detections.plot`
                needs; if None, that of a single image.
            anchors, patterns, layers: see :class:`~anchordetr.optimize.budget.Budget`; fewer take less time.
            batch_size: images computed at once; if None, 8, and on a CPU fewer of more than 2^16 pixels.
            precision: number format of the network: ``fp32``, ``bf16`` or ``fp16``.
            resolution: pixels of the long side to which images are resized; that of the configuration if None.
            max_detections: the largest number of detections of an image.
            classes: names of the classes to look for; None is all.

        Raises:
            InputError: the list is empty, or an image cannot be read; the message names it.
            UsageError: the network has fewer anchors, patterns or layers, a class is unknown, or a value is invalid.
        """
        return self._predictor(**known_options(options)).predict(source, threshold, keep_images)

    __call__ = predict

    def predict_each(
        self,
        sources: ImageSource | Iterable[ImageSource],
        threshold: Threshold = None,
        skip_broken: bool = False,
        *,
        keep_images: bool = True,
        **options: Unpack[PredictOptions],
    ) -> Generator[Detections, None, None]:
        """Yield the detections of each image in order; other arguments and errors are those of :meth:`predict`.

        Files are read ahead in threads. What is in memory at a time does not depend on the number of images: a batch
        and those read ahead.

        Args:
            sources: as in :meth:`predict`. An iterator may be endless; with ``batch_size=1`` it is at most eight images
                ahead of the results.
            skip_broken: leave out images that cannot be read, with a warning for each, instead of raising.
            keep_images: whether each of the detections has its image.
        """
        return self._predictor(**known_options(options)).predict_each(sources, threshold, skip_broken, keep_images)

    def _predictor(
        self,
        anchors: int | None = None,
        patterns: int | Sequence[int] | None = None,
        layers: int | None = None,
        batch_size: int | None = None,
        precision: str = "fp32",
        max_detections: int = 100,
        classes: Sequence[str] | None = None,
        resolution: int | None = None,
    ) -> Predictor:
        self._warn_if_untrained()
        require_precision(precision)
        require_count("max_detections", max_detections)
        if batch_size is not None:
            require_count("batch_size", batch_size)
        labels = None if classes is None else class_indices(classes, self.class_names)
        network = self._prepared.of(self.model, Budget(anchors, patterns, layers))
        backend = partial(detect, network, precision=precision, max_detections=max_detections, labels=labels)
        config = self.config if resolution is None else self.config.updated({"data.resolution": resolution})
        transform = transform_for(self.model, config.data)
        size = batch_size or (None if self.device.type == "cpu" else 8)
        return Predictor(backend, transform, self.class_names, self.category_ids, self.threshold, size)

    def _data_or_that_of_run(self, data: str | Path | None) -> str | Path:
        """Return the data set that was named, or else that of the run which this detector continues."""
        if data is None and self._data_of_run is None:
            raise UsageError(f"The data set is missing; name its folder with {by_user('--data', 'data')}.")
        return self._data_of_run if data is None else data  # type: ignore[return-value]

    def _validate(
        self, dataset: DetectionDataset, group: ProcessGroup, model: nn.Module, check: Callable[[int, int], None]
    ) -> Metrics:
        """Evaluate a network, and call ``check`` before each batch that every process of the group has."""
        size, transform = self.config.train.batch_size, transform_for(self.model, self.config.data)
        network = partial(detect, model, precision=self.config.train.precision)
        backend = checked(network, check, math.ceil(len(dataset) // group.size / size))
        metrics = evaluate(backend, dataset, transform, size, self.config.data.workers, group)
        self._adopt_metrics(metrics)
        return metrics

    def _adopt_metrics(self, metrics: Metrics) -> None:
        """Note the metrics of the current weights, and use the thresholds that fit them."""
        self.origin["metrics"] = metrics.to_dict()
        self.threshold, self.class_thresholds = metrics.threshold, dict(metrics.class_thresholds)

    def _draw_report(
        self, run: TrainingRun, dataset: DetectionDataset, history: Sequence[Mapping[str, Any]], metrics: Metrics
    ) -> dict[str, list[Path]]:
        images = [dataset.image(index) for index in range(len(dataset))[:4]]
        return plot_report(run.report_folder, self.predict_each(images, self.threshold), history, metrics)


def _identity_in(state: Mapping[str, Any], source: str) -> tuple[Config, list[str], list[int], dict[str, Any]]:
    """Return configuration, class names, category ids and origin of the detector that a run's state was saved of.

    Raises:
        InputError: they do not make a detector.
    """
    try:
        config, origin = parse_config(state["config"]), dict(state["started_from"])
        return config, *read_classes(state, config.model.num_classes, source), origin
    except InputError:
        raise
    except Exception as error:  # whatever a value of another type raises
        raise InputError(
            f"The state in {source} cannot be resumed from: {reason(error)}. Start a new run from its weights."
        ) from error


def _data_in(state: Mapping[str, Any]) -> str | None:
    """Return the data set that a run's state was saved of, if it says so: where it was, or as it was named."""
    match state.get("data"):
        case {"path": str(path), "given": str(given)}:
            return path if os.path.exists(path) else given
    return None
