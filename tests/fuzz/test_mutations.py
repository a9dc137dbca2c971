"""Mutated inputs are read, or refused with a sentence that names the file; nothing else happens."""

from __future__ import annotations

from random import Random

import pytest
from fuzz.fuzzed import fuzzed
from fuzz.outcome import Target
from fuzz.targets import TARGETS
from hypothesis import event, note


@pytest.fixture(scope="module")
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Target:
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return TARGETS[request.param](folder)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("target", TARGETS, indirect=True)
@fuzzed
def test_mutations_are_read_or_refused(target: Target, random: Random) -> None:
    content = target.mutate(random)
    note(repr(content))
    event(target.outcome(content))
