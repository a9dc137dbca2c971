"""The Hugging Face hub, replaced by a folder, and model cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import EntryNotFoundError

from anchordetr import Detector
from anchordetr.cli.main import run
from anchordetr.errors import InputError
from anchordetr.weights import hub


class FakeApi:
    """A hub that stores repositories as folders."""

    root: Path
    endpoint = "https://hub"

    def __init__(self, token: str | None) -> None: ...

    def create_repo(self, repo_id: str, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)

    def file_exists(self, repo_id: str, name: str) -> bool:
        return (self.root / repo_id / name).exists()

    def upload_folder(self, repo_id: str, folder_path: Path, ignore_patterns: list[str]) -> None:
        for file in folder_path.iterdir():
            if file.name not in ignore_patterns:
                (self.root / repo_id / file.name).write_bytes(file.read_bytes())

    @classmethod
    def download(cls, repo_id: str, name: str, local_files_only: bool) -> str:
        file = cls.root / repo_id / name
        if not file.parent.is_dir():
            raise ConnectionError("no such repository, or no network.\nmore lines")
        if not file.is_file():
            raise EntryNotFoundError(name)
        return str(file)


@pytest.fixture(autouse=True)
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    FakeApi.root = tmp_path / "hub"
    monkeypatch.setattr(hub, "HfApi", FakeApi)
    monkeypatch.setattr(hub, "is_reachable", lambda address: True)
    monkeypatch.setattr(hub, "hf_hub_download", FakeApi.download)
    return FakeApi.root


def test_a_detector_is_uploaded_and_loaded_again(detector: Detector, fake_hub: Path) -> None:
    assert detector.push_to_hub("me/pets") == "https://hub/me/pets"
    back = Detector.from_pretrained("me/pets", device="cpu")
    assert (back.class_names, back.category_ids, back.config) == (["cat", "dog", "ox"], [4, 8, 15], detector.config)
    (fake_hub / "me/pets/README.md").write_text("my own words")
    detector.push_to_hub("me/pets", precision="fp16")
    assert (fake_hub / "me/pets/README.md").read_text() == "my own words"


def test_the_card_lists_classes_metrics_and_origin(detector: Detector, coco_folder: Path, tmp_path: Path) -> None:
    metrics = detector.train(coco_folder, tmp_path / "run", epochs=1)
    trained = Detector.from_pretrained(tmp_path / "run", device="cpu")
    card = ModelCard(trained.model_card("me/shapes"))
    assert card.data.library_name == "anchordetr"
    assert card.data.pipeline_tag == "object-detection"
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert results["ap"] == metrics.ap
    for text in ("circle, rectangle, triangle", str(coco_folder), "| torch |", "| command |", "AP50"):
        assert text in card.text


def test_a_model_without_metrics_has_a_card(detector: Detector) -> None:
    assert "not been evaluated" in ModelCard(detector.model_card("me/pets")).text


def test_a_missing_repository_is_an_input_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"'me/nothing'.*\(no such repository, or no network\)"):
        Detector.from_pretrained("me/nothing")
    with pytest.raises(SystemExit):
        run(["eval", "--weights", "me/nothing", "--data", "shapes", "--output-dir", str(tmp_path)])
    assert "Hugging Face hub" in capsys.readouterr().err


def test_without_the_hub_what_was_fetched_before_is_used(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    detector.push_to_hub("me/pets")
    asked = []

    def download(repo_id: str, name: str, local_files_only: bool) -> str:
        asked.append(local_files_only)
        return FakeApi.download(repo_id, name, local_files_only)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    monkeypatch.setattr(hub, "is_reachable", lambda address: False)
    assert Detector.from_pretrained("me/pets", device="cpu").class_names == detector.class_names
    assert set(asked) == {True}
    with pytest.raises(InputError, match=r"'me/none' is not a local folder.*\(https://hugg.* cannot be reached\)"):
        Detector.from_pretrained("me/none")


def test_a_refused_upload_is_an_input_error(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise PermissionError("401 Unauthorized")

    monkeypatch.setattr(FakeApi, "create_repo", refuse)
    with pytest.raises(InputError, match=r"'me/pets'.*\(401 Unauthorized\)"):
        detector.push_to_hub("me/pets")
