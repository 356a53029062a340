from collections.abc import Callable
from pathlib import Path

import pytest

from whatwhere.datasets import MovingDigits, MovingDigitsRecipe, make_glyphs, save_video
from whatwhere.datasets.generated import digits
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
        status = data.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert status == 2
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert "Traceback" not in captured.err
        return captured.err

    return run


@pytest.fixture(scope="session")
def write_videos() -> Callable[..., Path]:
    """Writes a file of labelled videos of digits, of 40 x 40 pixels."""

    def write(path: Path, count: int, frames: int, seed: int = 0) -> Path:
        recipe = MovingDigitsRecipe(image_size=40, frames=frames)
        data = MovingDigits(recipe, make_glyphs("test", 50, seed), count, seed)
        save_video(path, data.subset(range(count)), generator="test", parameters={}, seed=seed)
        return path

    return write


@pytest.fixture(scope="session")
def videos(write_videos: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 40 labelled videos of 4 frames, of which training holds out 4."""
    return write_videos(tmp_path_factory.mktemp("data") / "videos.h5", 40, frames=4)
