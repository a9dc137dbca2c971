"""JSON and YAML of any content end in a value or in one sentence."""

from __future__ import annotations

import pytest
import yaml

from anchordetr.documents import TextLoader, parse_json, parse_yaml
from anchordetr.errors import InputError


def test_text_stays_as_it_was_written() -> None:
    text = "names: [02146, yes, null, 1.10, 12:30, ~, 2024-01-02]\n'0': cat\npath:\n"
    names = ["02146", "yes", "null", "1.10", "12:30", "~", "2024-01-02"]
    assert parse_yaml(text, "data.yaml", TextLoader) == {"names": names, "0": "cat", "path": ""}
    assert parse_yaml("lr: 0.1", "data.yaml") == {"lr": 0.1}
    assert yaml.safe_load("a: yes") == {"a": True}  # the loader of others is unchanged


def _bomb(levels: int) -> str:
    first = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    return first + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, levels))


@pytest.mark.parametrize("loader", [yaml.SafeLoader, TextLoader])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_bomb(12), "aliases"),
        ("a: &a [*a]", "contains itself"),
        ("a: &a {b: *a}", "contains itself"),
        ("[" * 100_000, "nested too deeply"),
        ("a: !!timestamp x", "not valid YAML"),
        ("a: !!int x", "not valid YAML"),
        ("a: !!python/object:os.system x", "not valid YAML"),
        ("{[1]: 2}", "not valid YAML"),
        (": :", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
        ("a: *b", "not valid YAML"),
    ],
)
def test_bad_yaml_is_one_sentence(text: str, message: str, loader: type[yaml.SafeLoader]) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse_yaml(text, "data.yaml", loader)
    assert str(error.value).startswith("data.yaml")
    assert "\n" not in str(error.value)


def test_aliases_of_ordinary_size_are_read() -> None:
    assert parse_yaml(_bomb(3), "data.yaml")["a2"][9][9][9] == "x"


@pytest.mark.parametrize("text", ["[" * 1_000_000, '{"a":' * 200_000, "1" * 5_000, '{"a":', "", "[1e", "\ud800"])
def test_bad_json_is_one_sentence(text: str) -> None:
    with pytest.raises(InputError, match=r"^data\.json is not valid JSON") as error:
        parse_json(text, "data.json")
    assert "\n" not in str(error.value)
