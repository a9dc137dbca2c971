"""One training run: its folder, what it writes there, when it may start, and how it is resumed."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from anchordetr.config import Config, differences, flatten
from anchordetr.console import duration, say
from anchordetr.data.loader import TrainBatch
from anchordetr.disk import require_space
from anchordetr.distributed import ALONE, ProcessGroup
from anchordetr.errors import InputError, WriteError, by_user, limited, listed, reason, setting
from anchordetr.files import write_json, write_text
from anchordetr.finite import non_finite
from anchordetr.metrics import Metrics
from anchordetr.training.data_facts import data_changes, old_path
from anchordetr.training.debug_step import keep_batches
from anchordetr.training.folder import LOG_FILE
from anchordetr.training.progress import Outcome
from anchordetr.training.report import REPORT_FILE, write_report
from anchordetr.training.state import load_state, save_state

log = logging.getLogger("anchordetr")

FAILED_STEP_FILE = "bad_step.pt"
_MAY_CHANGE = {  # on resuming, without --accept-changes
    "train.epochs",
    "train.eval_every",
    "train.save_every",
    "train.early_stopping_patience",
    "train.tensorboard",
    "train.wandb",
    "train.mlflow",
    "data.workers",
    "model.pretrained_backbone",
    "model.backbone_weights",
}


class NonFiniteError(RuntimeError):
    """A loss or a gradient is not a finite number; no weight has changed."""


@dataclass(frozen=True)
class TrainingRun:
    """One training run and its folder.

    Attributes:
        folder: receives ``best/``, ``last/``, ``log.jsonl``, ``log.csv``, ``metrics.json``, ``report.md``, ``report/``.
        config: of the whole run.
        write_model: writes a network into a folder.
        identity: ``class_names``, ``category_ids`` and ``started_from`` of the detector, and ``data`` as returned by
            :func:`~anchordetr.training.data_facts.describe_data`; saved with every state.
        process_group: the processes that train together; the main one writes.
    """

    folder: Path
    config: Config
    write_model: Callable[[Path, nn.Module], None]
    identity: Mapping[str, Any] = field(default_factory=dict)
    process_group: ProcessGroup = ALONE

    @property
    def report_folder(self) -> Path:
        """Folder of the report's figures."""
        return self.folder / "report"

    def load_state(self, accept_changes: bool = False) -> dict[str, Any]:
        """Return the last saved state, and print how its data and configuration differ from the current ones.

        Settings that did not exist when the state was saved count as their defaults. The same data may have moved.

        Raises:
            InputError: there is no state, it is damaged, it has another number of classes, or data or configuration
                differ and ``accept_changes`` is false.
        """
        state = load_state(self.folder / "last")
        self._compare_data(state, accept_changes)
        before = flatten(Config().model_dump(mode="json")) | flatten(state["config"])
        changed = differences(before, self.config.model_dump(mode="json"))
        if changed:
            lines = [f"{key}: {old} -> {new}" for key, (old, new) in sorted(changed.items())]
            say(f"The configuration differs from that of {self.folder}:\n  " + "\n  ".join(lines))
        refused = sorted(changed.keys() - _MAY_CHANGE)
        if refused and not accept_changes:
            raise InputError(
                f"{self.folder} was trained with another configuration ({', '.join(refused)}); resume it with the old "
                f"one, or add {by_user('--accept-changes', 'accept_changes=True')}."
            )
        return state

    def _compare_data(self, state: Mapping[str, Any], accept_changes: bool) -> None:
        changes, path = data_changes(state, self.identity), old_path(state, self.identity)
        if not changes:
            if path is not None:
                say(f"The data has moved from {limited(path)} to {self.identity['data']['path']}; it is the same.")
            return
        told = f"{self.folder} was trained on other data{'' if path is None else f', {limited(path)}'}: "
        told += "; ".join(changes)
        if len(state.get("class_names", [])) != len(self.identity.get("class_names", [])):
            raise InputError(f"{told}. Start a new run from its weights (--weights {self.folder}).")
        if not accept_changes:
            raise InputError(f"{told}. Resume it with the old data, or add --accept-changes.")
        say(f"{told}.")

    def require_space(self, model: nn.Module, ema: nn.Module | None) -> None:
        """Check that the disk has room for two states and a third one being written, and for two models.

        Args:
            model, ema: the network in training, and its EMA; the state also holds the two moments of AdamW.

        Raises:
            WriteError: on all processes, it has not.
        """
        weights = _bytes(model.state_dict().values())
        moments = 2 * _bytes(value for value in model.parameters() if value.requires_grad)
        state = weights + moments + (0 if ema is None else _bytes(ema.state_dict().values()))
        problem = None
        if self.process_group.is_main:
            files = [file for name in ("last", "best") for file in (self.folder / name).glob("*") if file.is_file()]
            existing = sum(file.stat().st_size for file in files)
            try:
                require_space(self.folder / "last", 3 * state + 2 * weights - existing)
            except WriteError as error:
                problem = error
        if problem := self.process_group.from_main(problem):
            raise problem

    def save_best(self, model: nn.Module) -> None:
        """Write a network as the best model; all processes call this."""
        if self.process_group.is_main:
            self.write_model(self.folder / "best", model)
        self._wait_for_all()

    def save_last(self, model: nn.Module, state: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> None:
        """Write the logs, the state, and a network as the last model; all processes call this.

        Resuming needs nothing but the state. The logs are written before it, because a finished run that is resumed
        writes none.
        """
        if self.process_group.is_main:
            lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in history)
            write_text(self.folder / LOG_FILE, "".join(lines))
            write_text(self.folder / "log.csv", _csv(history))
            save_state(self.folder / "last", {"config": self.config.model_dump(mode="json"), **self.identity, **state})
            self.write_model(self.folder / "last", model)
        self._wait_for_all()

    def finish(
        self,
        metrics: Metrics,
        history: Sequence[Mapping[str, Any]],
        origin: Mapping[str, Any],
        outcome: Outcome,
        draw: Callable[[Sequence[Mapping[str, Any]], Metrics], Mapping[str, Sequence[Path]]],
    ) -> None:
        """Write ``metrics.json``, then ``report.md``, whose failure is a warning, and print how the run ended.

        Only the main process calls this.

        Args:
            metrics: of the best model.
            history, origin, outcome: see :func:`~anchordetr.training.report.write_report`.
            draw: returns the report's figures, from the history and the metrics.
        """
        write_json(self.folder / "metrics.json", metrics.to_dict())
        figures: Mapping[str, Sequence[Path]] = {"curves": [], "samples": []}
        try:
            figures = draw(history, metrics)
        except Exception as error:
            log.warning("The figures of %s are not drawn: %s.", self.report_folder, reason(error))
        try:
            write_report(self.folder, metrics, history, origin, outcome, self.config, figures)
            report = f" Report: {self.folder / REPORT_FILE}."
        except Exception as error:
            report = ""
            log.warning("The report of %s is not written: %s.", self.folder, reason(error))
        found = (
            f"threshold {metrics.threshold:g} has the highest F1, {metrics.f1:.3f}" if metrics.f1 else "nothing found"
        )
        epochs = "1 epoch" if len(history) == 1 else f"{len(history)} epochs"
        say(
            f"Training ended after {epochs} and {duration(outcome.seconds)}: {outcome.reason}.\n"
            f"Best epoch: {outcome.best_epoch}, AP {metrics.ap:.3f}, AP50 {metrics.ap50:.3f}; {found}.\n"
            f"Model: {self.folder / 'best'}.{report}"
        )

    def keep_failed_step(
        self, batches: Sequence[TrainBatch], model: nn.Module, losses: Mapping[str, float]
    ) -> NonFiniteError:
        """Write the batches of a step that was not finite, for ``anchordetr debug-step``; return the error to raise.

        Args:
            batches: of this process.
            model: the network, with its gradients and the weights before the step.
            losses: of the step.
        """
        rank = "" if self.process_group.is_main else f"rank{self.process_group.rank}_"
        file = self.folder / f"{rank}{FAILED_STEP_FILE}"
        keep_batches(file, batches, model, self.config)
        bad = non_finite({name: value.grad for name, value in model.named_parameters() if value.grad is not None})
        return NonFiniteError(
            f"The loss is {dict(losses)}; gradients that are not finite: {listed(bad, 3) or 'none'}; on "
            f"images {[image_id for batch in batches for image_id in batch.image_ids]}. No weight was changed. "
            f"The step is saved: anchordetr debug-step {file} shows where it goes wrong. Lower train.lr, or use "
            f"{setting('train.precision', 'fp32')}."
        )

    def _wait_for_all(self) -> None:
        """Return once the main process has written everything, so that no process reads too early."""
        self.process_group.gather(None)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _csv(history: Sequence[Mapping[str, Any]]) -> str:
    """Return the numbers of the log as a table."""
    columns = dict.fromkeys(key for entry in history for key, value in entry.items() if not isinstance(value, dict))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()
