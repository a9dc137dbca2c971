"""Mutations of documents, texts, bytes and arguments; all that is random comes from the generator that is given.

Hypothesis draws through such a generator too, and shrinks what it has drawn.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

# fmt: off
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2 ** 31, 2 ** 53 + 1, 2 ** 63, 2 ** 64, 10 ** 400, 0.5, -0.0, 5e-324, 1e19, 1e308,
    math.nan, math.inf, -math.inf, "", " ", "0", "1234", "nan", "none", "²", "\0", "\ud800", "\x1b[2J", "[/bold]",
    "../x.png", "/", ".", "x" * 300, "9" * 5000, [], [[]], [None], [1, 2, 3, 4], ["a", "a"], {}, {"": None},
    {"a":[{}]},
)
TOKENS = (
    "", " ", "0", "-1", "1e19", "1e999", "nan", "inf", "-0.0", "²", "٣", "1_0", "0x1F", "012", "9" * 5000, "null",
    "yes", "{}", "{a: b}", "{0}", "[]", "[[]]", "[", "]", "{", "}", "<", ">", "</a>", "<a>" * 100, "[" * 3000, "&x;",
    "&#0;", "&a [*a]", "*a", "!!timestamp x", "!!binary =", "!!float x", "!!int x", "2024-13-45", "12:30",
    "2024-02-30 25:61:61", "? {a: b}\n: c", "---\na: b", ": :", "- -", "%s", "/", "..", "../x", "~", "#", "'", '"',
    "\t", "\n", "\r", "\0", "\x85", "\ufeff", "\ud800", "x" * 300, "[/bold]", "http://", "C:\\x",
)
BYTES = (
    b"\0", b"\xff", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\x80", b"\xef\xbb\xbf", b"\xff\xfe",
    b"9" * 20, b"-", b"nan", b"{", b"[", b"<", b"\n", b"PK\3\4", b"\x80\2c", b"." * 100,
)
# fmt: on
_TOKEN = re.compile(r"[^\s<>{}\[\],:\"/]+|\S|\s+")


def mutated_document(document: Any, random: Random, values: Sequence[Any] = VALUES) -> Any:
    """Return a copy of nested dictionaries and lists with one to three changes of values, keys or lengths."""
    document = copy.deepcopy(document)
    for _ in range(random.randrange(3) + 1):
        places = list(_places(document))
        if not places:
            return random.choice(values)
        _change(random.choice(places), random.choice(places), random, values)
    return document


def mutated_text(text: str, random: Random, tokens: Sequence[str] = TOKENS) -> bytes:
    """Return a text in UTF-8 with one to three words replaced, removed, repeated or exchanged, or mutated bytes."""
    if random.randrange(4) == 0:
        return mutated_bytes(text.encode(), random)
    parts = _TOKEN.findall(text)
    for _ in range(random.randrange(3) + 1):
        place, other, kind = random.randrange(len(parts)), random.randrange(len(parts)), random.randrange(6)
        old = parts[place]
        parts[place] = ("", old * 2, parts[other], old + random.choice(tokens), *[random.choice(tokens)] * 2)[kind]
    return "".join(parts).encode("utf-8", "surrogatepass")


def mutated_bytes(content: bytes, random: Random, other: bytes = b"") -> bytes:
    """Return bytes with one to four flips, cuts, insertions or repetitions, or with a piece of ``other``."""
    for _ in range(random.randrange(4) + 1):
        start = random.randrange(len(content) + 1)
        end = start + random.randrange(1, 33)
        before, piece, behind = content[:start], content[start:end], content[end:]
        kind = random.randrange(8)
        if kind < 3 and piece:
            content = before + bytes([piece[0] ^ 1 << random.randrange(8)]) + piece[1:] + behind
        elif kind == 3:
            content = before
        elif kind == 4:
            content = before + behind
        elif kind == 5:
            content = before + piece * 2 + behind
        elif kind == 6 and other:
            place = random.randrange(len(other))
            content = before + other[place : place + random.randrange(1, 257)] + behind
        else:
            odd = random.choice(BYTES)
            content = before + odd + content[start + len(odd) * random.randrange(2) :]
    return content


def mutated_arguments(arguments: Sequence[str], random: Random, values: Sequence[str]) -> list[str]:
    """Return arguments of which one to three are replaced, removed, repeated, added or glued to the next one."""
    changed = list(arguments)
    for _ in range(random.randrange(3) + 1):
        place, kind = random.randrange(len(changed) + 1), random.randrange(6)
        replaced = {0: [], 1: changed[place : place + 1] * 2, 2: ["=".join(changed[place : place + 2])]}
        width = 2 if kind == 2 else 1
        changed[place : place + width] = replaced.get(kind, [random.choice(values)])
    return changed


Place = tuple[Any, Any]
"""A dictionary or a list, and a key of it."""


def _places(node: Any) -> Iterator[Place]:
    if isinstance(node, (dict, list)):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            yield node, key
            yield from _places(node[key])


def _change(place: Place, other: Place, random: Random, values: Sequence[Any]) -> None:
    (container, key), kind = place, random.randrange(9)
    value = container[key]
    if kind == 0:
        del container[key]
    elif kind == 1:
        container[key] = [value]
    elif kind == 2:
        container[key] = repr(value)
    elif kind == 3:
        container[key] = copy.deepcopy(other[0][other[1]])
    elif kind == 4 and isinstance(container, list):
        container.append(copy.deepcopy(value))
    elif kind == 4:
        container[random.choice(("", " ", "\ud800", "a.b", str(key) * 2))] = container.pop(key)
    else:
        container[key] = copy.deepcopy(random.choice(values))
