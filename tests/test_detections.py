"""The container of detections: rows, names, texts and tables."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from anchordetr import Detections
from anchordetr.errors import InputError


@pytest.fixture
def found() -> Detections:
    xyxy = np.array([[0, 1, 10, 21], [2, 3, 4, 5], [6, 7, 8, 9]], np.float32)
    confidence, class_id = np.array([0.75, 0.5, 0.25], np.float32), np.array([1, 0, 1])
    data = {"class_name": np.array(["dog", "cat", "dog"]), "category_id": np.array([8, 4, 8])}
    image = np.zeros((30, 40, 3), np.uint8)
    anchors = np.array([[5, 11], [3, 4], [7, 8]], np.float32)
    return Detections(xyxy, confidence, class_id, anchors, np.array([0, 1, 0]), data, image, "a/street.jpg", (30, 40))


def assert_rows(found: Detections, rows: list[int], expected: Detections) -> None:
    assert isinstance(found, Detections)
    assert len(found) == len(rows)
    for name in ("xyxy", "confidence", "class_id", "anchor_xy", "pattern_id"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name)[rows])
        assert getattr(found, name).shape == (len(rows), *getattr(expected, name).shape[1:])
    assert {key: values.tolist() for key, values in found.data.items()} == {
        key: values[rows].tolist() for key, values in expected.data.items()
    }
    assert (found.image is expected.image, found.source, found.size) == (True, expected.source, expected.size)


@pytest.mark.parametrize(
    ("chosen", "rows"),
    [
        (0, [0]),
        (-1, [2]),
        (np.int64(1), [1]),
        (slice(1, None), [1, 2]),
        ([2, 0], [2, 0]),
        ([], []),
        (np.array([True, False, True]), [0, 2]),
        ([True, False, True], [0, 2]),
        (np.array([1, 1]), [1, 1]),
    ],
    ids=str,
)
def test_rows_are_detections_of_their_own(chosen: Any, rows: list[int], found: Detections) -> None:
    assert_rows(found[chosen], rows, found)


def test_confidence_and_class_select_as_masks(found: Detections) -> None:
    assert found[found.confidence > 0.3]["class_name"].tolist() == ["dog", "cat"]
    assert found[found["class_name"] == "dog"].confidence.tolist() == [0.75, 0.25]


def test_iterating_yields_one_row_after_the_other(found: Detections) -> None:
    rows = list(found)
    assert len(rows) == 3
    for row, one in enumerate(rows):
        assert_rows(one, [row], found)
        one.xyxy[...] = -1
    assert found.xyxy.min() == 0


def test_rows_and_names_that_do_not_exist(found: Detections) -> None:
    with pytest.raises(IndexError):
        found[3]
    with pytest.raises(KeyError, match="no 'name'; it has category_id, class_name"):
        found["name"]


def test_a_text_tells_counts_size_and_source(found: Detections) -> None:
    assert repr(found) == "Detections(2 dog, 1 cat; 40x30; a/street.jpg)"
    nothing = found[:0]
    nothing.size = nothing.source = None
    assert repr(nothing) == "Detections(nothing)"
    found.data.clear()
    assert repr(found).startswith("Detections(2 1, 1 0; ")
    found.data["class_name"] = np.array(["x" * 10_000, "b", "c"])
    assert len(repr(found)) < 400


def test_a_dictionary_is_what_json_holds(found: Detections) -> None:
    content = found.to_dict()
    assert json.loads(found.to_json()) == content
    assert {key: content[key] for key in ("source", "height", "width")} == {
        "source": "a/street.jpg",
        "height": 30,
        "width": 40,
    }
    assert content["detections"][0] == {
        "class_id": 1,
        "confidence": 0.75,
        "xyxy": [0, 1, 10, 21],
        "class_name": "dog",
        "category_id": 8,
        "anchor_xy": [5, 11],
        "pattern_id": 0,
    }
    assert found[:0].to_dict()["detections"] == []


def test_a_table_has_a_row_for_each_detection(found: Detections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=dict))
    table: Any = found.to_pandas()
    assert list(table)[:7] == ["x1", "y1", "x2", "y2", "confidence", "class_id", "class_name"]
    assert {len(column) for column in table.values()} == {3}
    assert (table["x2"].tolist(), table["anchor_y"].tolist()) == ([10, 4, 8], [11, 4, 8])
    table["confidence"][...] = 0
    assert found.confidence[0] == 0.75


def test_a_table_by_pandas(found: Detections) -> None:
    pandas = pytest.importorskip("pandas", reason="needs the extra anchordetr[pandas]")
    table = found.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert table["class_name"].value_counts().to_dict() == {"dog": 2, "cat": 1}
    assert found[:0].to_pandas().shape == (0, table.shape[1])


def test_missing_pandas_names_the_install_command(found: Detections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'anchordetr\[pandas\]'"):
        found.to_pandas()


def test_a_plot_without_an_image_says_how_to_get_one(found: Detections) -> None:
    found.image = None
    with pytest.raises(InputError, match="keep_images=True"):
        found.plot()
