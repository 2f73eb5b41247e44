"""Settings of the whole suite."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key or an address that whoever runs the tests has set changes nothing."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "MISALIGN_BENCH_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
