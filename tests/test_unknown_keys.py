"""Configuration keys that do not exist: what people mean by them is named, never a long list."""

from __future__ import annotations

from collections import Counter

import pytest

from anchordetr.config import Config
from anchordetr.config.section import full_keys
from anchordetr.config.unknown import ELSEWHERE, NEEDLESS, SYNONYMS
from anchordetr.errors import UsageError, by_user, closest_match, on_command_line, setting


def refusal(key: str) -> str:
    with pytest.raises(UsageError) as error:
        Config().updated({key: 1})
    return str(error.value)


def test_no_two_sections_have_a_key_of_one_name() -> None:
    names = Counter(name for _, section in Config() for name, _ in section)
    assert set(names.values()) == {1}
    assert names.keys() == full_keys().keys()
    assert not names.keys() & Config.model_fields.keys()


def test_synonyms_are_no_keys_and_name_keys() -> None:
    others = [*SYNONYMS, *ELSEWHERE, *NEEDLESS]
    assert len(set(others)) == len(others)
    assert not set(others) & full_keys().keys()
    assert set(SYNONYMS.values()) <= set(full_keys().values())


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("train.workers", "'workers' is data.workers"),
        ("model.epochs", "'epochs' is train.epochs"),
        ("train.worker", "Did you mean 'data.workers'?"),
        ("train.lrr", "Did you mean 'train.lr'?"),
        ("data.imgsz", "Did you mean 'data.resolution'?"),
        ("img_size", "Did you mean 'resolution' (data.resolution)?"),
        ("num_epochs", "Did you mean 'epochs' (train.epochs)?"),
        ("bs", "Did you mean 'batch_size' (train.batch_size)?"),
        ("train.learning_rate", "Did you mean 'train.lr'?"),
        ("lr0", "Did you mean 'lr' (train.lr)?"),
        ("epoch", "Did you mean 'epochs' (train.epochs)?"),
        ("output", "it is output_dir."),
        ("weights", "it is Detector.from_pretrained."),
        ("conf", "it is the argument threshold of predict."),
        ("train.iou", "there is no NMS."),
        ("zzzz", f"lists all {len(full_keys())}."),
    ],
)
def test_what_is_meant_is_named(key: str, words: str) -> None:
    message = refusal(key)
    assert message.startswith(f"Unknown configuration key '{key}'")
    assert words in message
    assert len(message) < 150


def test_the_command_line_names_its_options() -> None:
    with on_command_line():
        assert "it is --output-dir." in refusal("train.output")
        assert setting("train.lr", "1") == "--set train.lr=1"
        assert by_user("--resume", "resume=True") == "--resume"
    assert "it is output_dir." in refusal("train.output")
    assert setting("train.lr", "1") == "the setting train.lr=1"


def test_at_most_five_known_names_are_listed() -> None:
    many = [f"network_{number}" for number in range(1000)]
    shown = closest_match("zz", many, "the page")
    assert shown.count("network_") == 5
    assert shown.endswith("; the page lists all 1,000.")
    assert closest_match("zz", many).endswith(", ... (1,000 in all).")
    assert closest_match("zz", ["b", "a"]) == " Known: a, b."
    assert closest_match("network7", many) == " Did you mean 'network_7'?"
