from collections.abc import Callable

import pytest

from whatwhere.datasets import digits
from whatwhere.examples import data


@pytest.fixture
def few_glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Printed digits are made of fewer fonts' pictures."""
    monkeypatch.setattr(digits, "DEFAULT_GLYPHS", 50)


@pytest.fixture
def data_error(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command of `whatwhere-data` that fails, and returns the one line that it tells."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        try:
            status = data.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code  # type: ignore[assignment]
        captured = capsys.readouterr()
        assert status == 2
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert "Traceback" not in captured.err
        return captured.err

    return run
