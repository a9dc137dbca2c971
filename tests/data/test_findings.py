"""Messages about problems of a data set."""

from __future__ import annotations

import pytest

from anchordetr.data.findings import KINDS, Finding


@pytest.mark.parametrize(("kind", "limit"), [("missing_image", 100), ("no_area", 10), ("zero_id", 10)])
def test_a_message_has_the_source_the_count_and_the_first_names(kind: str, limit: int) -> None:
    sentence = Finding(kind, [f"name_{number}" for number in range(101)]).sentence("val.json")
    assert sentence.startswith("val.json: ")
    assert ": 101 (name_0, " in sentence
    assert f"name_{limit - 1}, ...)" in sentence
    assert f"name_{limit}," not in sentence
    assert sentence.endswith(KINDS[kind].advice or ".")


def test_a_long_name_is_cut() -> None:
    assert len(Finding("missing_image", ["9" * 5000, "a.png"]).sentence("val.json")) < 400


def test_every_error_of_annotations_has_advice() -> None:
    silent = {kind for kind, (severity, _, advice) in KINDS.items() if severity == "error" and not advice}
    assert silent == {"unusable"}
