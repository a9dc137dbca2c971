"""Names in Markdown."""

from __future__ import annotations

import pytest

from anchordetr.markdown import code, escaped


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("traffic light, hot-dog, stop_sign, 道路", "traffic light, hot-dog, stop_sign, 道路"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a|b & c", "a&#124;b &amp; c"),
        ("*a* _b_ `c` ~d~ $e$", r"\*a\* \_b\_ \`c\` \~d\~ \$e\$"),
        ("![x](http://y)", r"!\[x\](http://y)"),
        ("a\\|b", r"a\\&#124;b"),
        ("a\n# b\x1b", "a\\\\n# b\\\\x1b"),
    ],
)
def test_names_stay_text(text: str, shown: str) -> None:
    assert escaped(text) == shown


@pytest.mark.parametrize(("text", "shown"), [("a b", "`a b`"), ("a `b`\n", "`` a `b`\\n ``"), ("```", "```` ``` ````")])
def test_code_may_hold_backticks(text: str, shown: str) -> None:
    assert code(text) == shown
