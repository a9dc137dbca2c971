"""Tables and JSON of names that would change the terminal, or of many classes."""

from __future__ import annotations

import json

import pytest

from anchordetr.cli.tables import print_facts, print_json, print_metrics
from anchordetr.metrics import STATISTICS, Metrics

NAMES = ["[/bold]", "[red]x", "\x1b[2J", "a\nb", "\udcff", "\u202egpj", "x" * 10_000, "", ":smile:", "\\[/b]"]


def metrics_of(names: list[str]) -> Metrics:
    return Metrics(**dict.fromkeys(STATISTICS, 0.5), per_class=dict.fromkeys(names, 0.25))


def test_names_are_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_metrics(metrics_of(NAMES), as_json=False)
    print_facts(dict.fromkeys(["[/bold]"], "[/red]\x1b[2J"))
    printed = capsys.readouterr().out
    for shown in ("[/bold]", "[red]x", r"\x1b[2J", r"a\nb", r"\udcff", r"\u202egpj", ":smile:", r"\[/b]", "[/red]"):
        assert shown in printed
    assert "\x1b" not in printed
    assert len(printed) < 20_000


def test_json_keeps_names_and_sends_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    names = [*NAMES, "\x9b31m\x7f道路"]
    print_metrics(metrics_of(names), as_json=True)
    print_json({"\x85": names})
    printed = capsys.readouterr().out
    first, second = printed.split("}\n{")
    assert list(json.loads(first + "}")["per_class"]) == names
    assert json.loads("{" + second) == {"\x85": names}
    assert printed.encode()
    assert "道路" in printed
    assert not set(printed) & set("\x1b\x9b\x7f\x85\u202e\udcff")


def test_of_many_classes_the_best_and_the_worst_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    values = {f"c{number}": number / 10_000 for number in range(10_000)} | {"unseen": -1.0}
    print_metrics(Metrics(**dict.fromkeys(STATISTICS, 0.5), per_class=values), as_json=False)
    printed = capsys.readouterr().out
    assert "c9999 " in printed
    assert "c0 " in printed
    assert "c5000 " not in printed
    assert "unseen" not in printed
    assert "100 of 10001" in printed


def test_all_classes_are_shown_on_demand_with_the_threshold_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    values = {f"c{number}": 0.5 for number in range(150)}
    metrics = Metrics(
        **dict.fromkeys(STATISTICS, 0.5), per_class=values, f1=0.625, threshold=0.31, class_thresholds={"c77": 0.42}
    )
    print_metrics(metrics, as_json=False, most_classes=len(values))
    printed = capsys.readouterr().out
    rows = [line.replace(" ", "") for line in printed.splitlines()]
    assert all(f"│{name}│0.500│-│" in rows for name in values if name != "c77")
    assert "│c77│0.500│0.42│" in rows
    assert "Highest F1 of all classes together: 0.625, at a threshold of 0.31." in printed
    print_metrics(metrics_of(["c0"]), as_json=False)
    assert "Highest F1 of all classes together: 0, no object was found." in capsys.readouterr().out
