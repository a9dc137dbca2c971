"""How many mutations hypothesis makes: ``EXAMPLES=20000 pytest -m slow tests/fuzz``, 200 by default."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st


def fuzzed(test: Any) -> Any:
    """Call a test with many generators of random numbers as its argument ``random``, and shrink what fails."""
    limits = settings(
        max_examples=int(os.environ.get("EXAMPLES", "200")),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=True,
    )
    return limits(given(random=st.randoms(use_true_random=False))(test))
