"""A user's own model in the programs: named on the command line, and nowhere else."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import whatwhere
from whatwhere.checks import FieldError
from whatwhere.examples import minimal_trainer
from whatwhere.examples.common.program import UsageError
from whatwhere.examples.common.user_code import call_named, check_name
from whatwhere.examples.parts.sqair_config import NetworkConfig
from whatwhere.examples.parts.sqair_programs import programs_of
from whatwhere.examples.sqair import EXAMPLE, SQAIRConfig, main
from whatwhere.inference.training import load_checkpoint

SMALL = [
    "--batch-size=4",
    "--particles=2",
    "--frames=2",
    "--first-frames=2",
    "--network.hidden=12",
    "--network.narrow=8",
    "--network.presence-hidden=8",
    "--network.what-size=4",
    "--network.glimpse-size=8",
    "--training.evaluate-every=none",
    "--training.steps=2",
    "--optimizer=adam",
]
MODULE = '''
from pathlib import Path

from torch import nn
from whatwhere.examples.parts.sqair_programs import build
from whatwhere.models.priors import RecurrentPropagationPrior

Path("imported").touch()


class Wide(RecurrentPropagationPrior):
    """With a name of its own in checkpoints."""

    def __init__(self, what_size, hidden_size):
        super().__init__(what_size, hidden_size)
        self.mine = self.readout
        del self.readout

    def forward(self, slots):
        self.__dict__["readout"] = self.mine
        return super().forward(slots)


def make(config, image):
    model, guide = build(config.network, config.prior, image)
    model.propagation_prior = Wide(config.network.what_size, config.network.hidden)
    return model, guide


def other(config, image):
    return make(config, image)


def swapped(config, image):
    return tuple(reversed(make(config, image)))


def shapes(config, image):
    return nn.Linear(*image.shape[1:]), nn.Identity()


def wrong(config, image):
    return "a model"


def fails(config, image):
    raise KeyError("what is missing")
'''


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the user's module."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "users_model.py").write_text(MODULE)
    return folder


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """There nothing is imported yet."""
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (home / "imported").unlink(missing_ok=True)
    sys.modules.pop("users_model", None)
    yield home
    sys.modules.pop("users_model", None)


@pytest.fixture(scope="module")
def trained(home: Path, videos: Path) -> Path:
    """A run with the user's model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(sys, "path", list(sys.path))
        options = ["--output=run", f"--data.source={videos}", "--build=users_model:make"]
        assert main(["train", *options, *SMALL]) == 0
    return home / "run" / "checkpoint.pt"


def test_it_is_trained_and_its_checkpoint_says_by_what(trained: Path):
    checkpoint = load_checkpoint(trained)
    assert checkpoint.configuration["build"] == "users_model:make"
    assert any(key.startswith("propagation_prior.mine") for key in checkpoint.modules["model"])


def test_the_image_it_is_given_is_that_of_the_whole_camera():
    network = NetworkConfig(
        image_shape=(1, 24, 20), background="camera", camera=(40, 61), discovery="evidence"
    )
    model, _ = programs_of(SQAIRConfig(build="users_model:shapes", network=network))
    assert tuple(model.weight.shape) == (61, 40)


@pytest.mark.filterwarnings("ignore:.*not what the model knows")
@pytest.mark.parametrize("command", ["evaluate", "track", "generate", "export"])
def test_every_command_uses_it_where_it_is_named(command: str, trained: Path, tmp_path: Path, capsys):
    options = {
        "evaluate": ["--videos=2", "--iwae-particles=2", "--iwae-videos=2", f"--output={tmp_path}"],
        "track": [str(EXAMPLE), f"--output={tmp_path}", "--particles=2", "--films=0", "--resize"],
        "generate": [f"--output={tmp_path}", "--count=2", "--frames=2"],
        "export": [f"--output={tmp_path / 'shared.pt'}"],
    }[command]
    arguments = [command, f"--checkpoint={trained}", *options]
    assert main(arguments) == 2  # it is code, which only the user may ask to be run
    assert "give `--build users_model:make`" in capsys.readouterr().err
    assert not Path("imported").exists()
    assert "users_model" not in sys.modules
    assert main([*arguments, "--build=users_model:make"]) == 0
    assert Path("imported").exists()


def test_another_function_than_that_of_training_is_not_called(trained: Path, tmp_path: Path, capsys):
    arguments = ["generate", f"--checkpoint={trained}", f"--output={tmp_path}"]
    assert main([*arguments, "--build=users_model:other"]) == 2
    message = capsys.readouterr().err
    assert "give `--build users_model:make`" in message
    assert "got `--build users_model:other`" in message
    assert not Path("imported").exists()


def test_the_package_s_own_models_are_not_made_by_it(tmp_path: Path, capsys):
    assert main(["generate", f"--output={tmp_path}", "--build=users_model:make"]) == 2
    assert "was trained without `--build`" in capsys.readouterr().err
    assert not Path("imported").exists()


def test_a_run_is_resumed_with_the_same_function(trained: Path, videos: Path, capsys):
    options = ["--output=run", f"--data.source={videos}", *SMALL, "--resume", "--training.steps=3"]
    assert main(["train", *options]) == 2
    assert "build" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:make", "there is no module `nowhere`"),
        ("users_model:nothing", "the module has no function `nothing`"),
        ("users_model:fails", "KeyError: 'what is missing'"),
    ],
)
def test_what_cannot_be_called_is_said_in_a_line(name: str, message: str):
    with pytest.raises(UsageError, match=message):
        call_named(name, None, None)


def test_what_is_no_model_is_refused(videos: Path, tmp_path: Path, capsys):
    options = [f"--output={tmp_path}", f"--data.source={videos}", "--build=users_model:wrong"]
    assert main(["train", *options, *SMALL]) == 2
    assert "must return a model and a guide" in capsys.readouterr().err
    options[-1] = "--build=users_model:swapped"
    assert main(["train", *options, *SMALL]) == 2
    assert "got the guide first" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["make", "module.make", "a b:c", "module:", "os;x:y", ""])
def test_names_are_of_functions_in_modules(name: str):
    with pytest.raises(FieldError, match=r"package\.module:function"):
        SQAIRConfig(build=name)
    check_name("build", None)


def test_the_documentation_s_model_is_trained_by_the_program(videos: Path, at_home: Path, tmp_path: Path):
    page = (Path(whatwhere.__file__).parent / "docs/new_model.md").read_text()
    (code,) = re.findall(r"^```python\n(# flicker\.py\n.*?)^```", page, re.DOTALL | re.MULTILINE)
    (at_home / "flicker.py").write_text(code)
    options = [f"--output={tmp_path}", f"--data.source={videos}", "--build=flicker:make"]
    assert main(["train", *options, *SMALL]) == 0
    names = load_checkpoint(tmp_path / "checkpoint.pt").modules["guide"]
    assert {"background.readout.weight", "background.readout.bias"} <= set(names)


def test_the_small_program_trains_and_goes_on(tmp_path: Path):
    for steps in (1, 2):
        assert minimal_trainer.main(steps, batch_size=2, output=tmp_path) < 0
        assert load_checkpoint(tmp_path / "checkpoint.pt").step == steps
