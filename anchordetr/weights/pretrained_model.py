"""A network with its classes and its settings, which can be saved, loaded and shared."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from anchordetr.config import Config, differences, merged
from anchordetr.console import say
from anchordetr.device import Device, choose_device
from anchordetr.errors import InputError, UsageError, classes, limited, listed
from anchordetr.files import write_text
from anchordetr.models.builders import build_model
from anchordetr.models.presets import PRESETS, preset
from anchordetr.models.presets import recipe as recipe_settings
from anchordetr.optimize.prepared import PreparedCopy
from anchordetr.seeding import independent_initialization
from anchordetr.weights.checks import load_weights
from anchordetr.weights.class_transfer import MatchClasses, adopt_classes, check_match
from anchordetr.weights.description import SavedModel
from anchordetr.weights.hub import CARD_FILE, model_card, push_folder
from anchordetr.weights.pretrained import load_pretrained
from anchordetr.weights.saved_model import read_model, write_model

log = logging.getLogger("anchordetr")


class PretrainedModel:
    """A network with its classes and its settings; the base class of :class:`~anchordetr.detector.Detector`.

    Arguments, attributes and errors are those of the detector.
    """

    def __init__(
        self,
        config: str | Config = "anchordetr_r50_dc5",
        class_names: Sequence[str] | None = None,
        category_ids: Sequence[int] | None = None,
        device: Device = "auto",
        recipe: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(config, (str, Config)):
            raise UsageError(
                f"A Detector is built from a preset's name or a Config, not from a {type(config).__name__}; "
                "list_models() returns the names."
            )
        config = _preset(config) if isinstance(config, str) else config
        config = config.updated(merged(recipe_settings(recipe) if recipe is not None else {}, settings or {}))
        if class_names is not None:
            _check_names(class_names)
            config = config.updated({"model.num_classes": len(class_names)})
        count = config.model.num_classes
        self.config = config
        self.class_names = list(class_names or (f"class {index}" for index in range(count)))
        self.category_ids = list(category_ids or range(1, count + 1))
        if len(self.category_ids) != count:
            raise InputError(f"There are {count} class names but {len(self.category_ids)} category ids.")
        self.origin: dict[str, Any] = {}
        self.threshold = 0.5
        self.class_thresholds: dict[str, float] = {}
        self._unused_classes: dict[str, torch.Tensor] = {}
        self.device = choose_device(device)
        with independent_initialization(config.train.seed):
            self.model = build_model(config.model).to(self.device, torch.float32).eval()
        self._initial_updates: int | None = _updates(self.model)
        self._prepared = PreparedCopy()
        self.refresh()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.refresh()

    def __repr__(self) -> str:
        name, changed = _closest_preset(self.config)
        sizes, count = self.config.data, sum(parameter.numel() for parameter in self.model.parameters())
        parts = (
            f"{name} with {changed} other settings" if changed else name,
            f"{len(self.class_names)} classes: {listed(self.class_names, 3)}",
            f"images up to {sizes.short_side}x{sizes.long_side}",
            f"{count / 1e6:.1f} million parameters",
            str(self.device),
        )
        return f"{type(self).__name__}({'; '.join(parts)})"

    def to(self, device: Device) -> Self:
        """Move the detector to another device, and return it.

        Raises:
            UsageError: this machine has no such device.
        """
        self.device = choose_device(device)
        self.model.to(self.device)
        self.refresh()
        return self

    def refresh(self) -> None:
        """Make the copy of the network that predictions run on, now.

        Building, loading, copying, unpickling and training do so, and predictions notice weights that
        ``load_state_dict``, optimizers or ``to`` change. Call this after changes that torch does not count, such as
        ``parameter.data.mul_(2)`` or another value of a module's attribute.
        """
        self._prepared.drop()
        self._prepared.of(self.model)

    def save_pretrained(self, folder: str | Path, precision: str = "fp32") -> None:
        """Write ``config.json`` and ``model.safetensors``; files of these names are replaced.

        Args:
            folder: created if needed.
            precision: ``fp32``, or ``fp16`` or ``bf16`` for half the size; norms, biases and anchors keep float32.

        Raises:
            UsageError: there is no such precision.
        """
        write_model(Path(folder), self._to_saved(self.model), precision)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        device: Device = "auto",
        features: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Self:
        """Load a trained detector.

        Args:
            source: what :meth:`save_pretrained`, training or ``anchordetr convert`` wrote (``best`` of a
                run's output folder); a checkpoint file of the original implementation or of detrex, whose pickle is not
                run; the name of a preset with published weights, which are fetched once; or a repository on the
                Hugging Face hub.
            device: see :func:`~anchordetr.device.choose_device`.
            features: ``c5`` or ``dc5``, for a checkpoint file that does not say which.
            settings: changes to the saved configuration, such as ``{"data.resolution": 640}``.

        Raises:
            InputError: there is no model, it is damaged, of another version or architecture, or cannot be fetched.
            UsageError: a setting does not exist.
        """
        saved = load_pretrained(source, features)
        config, device = saved.config.updated(settings or {}), choose_device(device)
        try:
            loaded = cls(config, saved.class_names, saved.category_ids, device)
        except UsageError as error:
            raise UsageError(f"The model of {source} cannot be built: {error}") from error
        load_weights(loaded.model, saved.weights, str(source))
        loaded.origin = saved.origin or {"source": str(source)}
        loaded.threshold, loaded.class_thresholds = saved.threshold, saved.class_thresholds
        loaded._unused_classes = saved.unused_classes
        loaded.refresh()
        return loaded

    def push_to_hub(
        self, repo_id: str, private: bool = False, token: str | None = None, precision: str = "fp32"
    ) -> str:
        """Upload the detector and its model card to the Hugging Face hub; an existing card is kept.

        Args:
            repo_id: ``user/name``; created if needed.
            private: whether a new repository is private.
            token: access token of the hub; by default the one that ``hf auth login`` stored.
            precision: see :meth:`save_pretrained`.

        Returns:
            The URL of the repository.

        Raises:
            InputError: the hub refuses the upload or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, precision)
            write_text(Path(folder) / CARD_FILE, self.model_card(repo_id))
            return push_folder(Path(folder), repo_id, private, token)

    def model_card(self, title: str) -> str:
        """Return the text of a model card: classes, metrics, data set, command, versions."""
        return model_card(self._to_saved(self.model), title)

    def _to_saved(self, model: nn.Module) -> SavedModel:
        """Return what is saved, with the weights of ``model``: this network, or another of its architecture (EMA)."""
        return SavedModel(
            self.config,
            self.class_names,
            self.category_ids,
            model.state_dict(),
            self.origin,
            self._unused_classes,
            self.threshold,
            self.class_thresholds,
        )

    def _warn_if_untrained(self) -> None:
        """Warn, once, if no weight has changed since the network was built."""
        if self._initial_updates is not None and self._initial_updates == _updates(self.model):
            log.warning(
                "This detector was never trained: its detections are random. Train it, or load a trained one with "
                "Detector.from_pretrained(...); anchordetr list-models has names."
            )
        self._initial_updates = None

    def _write_network(self, folder: Path, model: nn.Module) -> None:
        write_model(folder, self._to_saved(model))

    def _load_weights(self, folder: Path) -> None:
        """Load the weights of a model folder of the same architecture, and switch to eval mode."""
        load_weights(self.model.eval(), read_model(folder).weights, str(folder))

    def _adopt_classes(self, names: list[str], category_ids: list[int], match: MatchClasses) -> None:
        """Adopt the classes of a data set; if they differ, the modules with one row for each class are replaced.

        Raises:
            UsageError: ``match`` is neither ``name`` nor ``none``.
        """
        check_match(match)
        if self.class_names != names or match == "none":
            self.config = self.config.updated({"model.num_classes": len(names)})
            self.threshold, self.class_thresholds = 0.5, {}
            table = adopt_classes(self.model, self.class_names, names, match, self.config.train.seed)
            if self.origin:
                say(table)
            else:
                log.warning("The class head is new, for the %s of the data.", classes(names))
        self.class_names, self.category_ids, self._unused_classes = list(names), list(category_ids), {}


def _updates(model: nn.Module) -> int:
    """Return how often torch has changed the parameters in place: initialising, loading and training do so."""
    return sum(0 if value.is_inference() else value._version for value in model.parameters())


def _preset(name: str) -> Config:
    """Return a preset's configuration.

    Raises:
        UsageError: there is no preset of this name, or it is a saved model.
    """
    if name not in PRESETS and Path(name).exists():
        raise UsageError(f"'{name}' is no preset; load a saved model with Detector.from_pretrained('{name}').")
    return preset(name)


def _check_names(names: Sequence[str]) -> None:
    """Refuse class names that are one text, none, or not all texts."""
    if isinstance(names, str):
        raise UsageError(f"class_names is a list, one name for each class: write class_names=['{limited(names)}'].")
    is_list = isinstance(names, Sequence) and all(isinstance(name, str) and name.strip() for name in names)
    if not is_list or len(names) == 0:
        raise UsageError("class_names is a list of texts that are not empty, one for each class.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"class_names has '{limited(twice)}' twice; give each class a name of its own.")


def _closest_preset(config: Config) -> tuple[str, int]:
    """Return the preset whose network is the most similar, and how many settings of the network differ."""

    def distance(name: str) -> int:
        return len(differences(_architecture(PRESETS[name]), _architecture(config)))

    name = min(PRESETS, key=distance)
    return name, distance(name)


def _architecture(config: Config) -> dict[str, Any]:
    """Return the settings of the network but its classes and what its weights start from."""
    return config.model.model_dump(exclude={"num_classes", "pretrained_backbone", "backbone_weights"})
