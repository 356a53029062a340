import copy
import dataclasses
import errno
import json
import math
import os
import re
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from whatwhere._version import __version__
from whatwhere.inference.training import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from whatwhere.inference.training.checkpoint import module_states
from whatwhere.inference.training.checkpoint_file import FORMAT_VERSION
from whatwhere.inference.training.optimizers import RMSPropTF, make_optimizer


def modules() -> dict[str, nn.Module]:
    return {"model": nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), "guide": nn.Linear(2, 3)}


def stepped(
    module: nn.Module, cls: type[torch.optim.Optimizer] = torch.optim.Adam, **options
) -> torch.optim.Optimizer:
    optimizer = cls(module.parameters(), lr=0.1, **options)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer


def checkpoint_of(parts: dict[str, nn.Module], optimizer: torch.optim.Optimizer | None = None) -> Checkpoint:
    state = optimizer and {"name": type(optimizer).__name__, "state": optimizer.state_dict()}
    return Checkpoint(
        7, module_states(parts), state, {"seed": 3, "loop": {"steps": 9}}, {"bound": -1.5}, seed=3
    )


def test_everything_returns_as_it_was(tmp_path):
    parts = modules()
    optimizer = stepped(parts["guide"])
    saved = checkpoint_of(parts, optimizer)
    save_checkpoint(tmp_path / "a.pt", saved)
    loaded = load_checkpoint(tmp_path / "a.pt")
    assert (loaded.step, loaded.seed, loaded.metrics) == (7, 3, {"bound": -1.5})
    assert loaded.configuration == {"seed": 3, "loop": {"steps": 9}}
    assert loaded.package_version == __version__
    assert loaded.path == tmp_path / "a.pt"

    others = modules()
    loaded.restore_modules(others)
    for name, part in parts.items():
        state = others[name].state_dict()
        assert all(torch.equal(value, state[key]) for key, value in part.state_dict().items())
    other = torch.optim.Adam(others["guide"].parameters(), lr=0.5)
    loaded.restore_optimizer(other)
    assert other.param_groups[0]["lr"] == 0.1
    for mine, theirs in zip(optimizer.state.values(), other.state.values(), strict=True):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_file_needs_no_code_to_be_loaded_and_states_its_format(tmp_path):
    save_checkpoint(tmp_path / "a.pt", checkpoint_of(modules()))
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    assert content["format"] == "whatwhere checkpoint"
    assert content["format_version"] == FORMAT_VERSION


def test_view_of_a_large_tensor_is_stored_alone(tmp_path):
    large = torch.zeros(1_000_000)
    save_checkpoint(tmp_path / "a.pt", Checkpoint(0, {"model": {"view": large[:3]}}))
    assert (tmp_path / "a.pt").stat().st_size < 10_000


def test_optimizer_keeps_its_own_implementation(tmp_path):
    module = nn.Linear(2, 2)
    save_checkpoint(tmp_path / "a.pt", checkpoint_of({"m": module}, stepped(module, fused=True)))
    plain = torch.optim.Adam(module.parameters(), lr=0.1, foreach=True)
    load_checkpoint(tmp_path / "a.pt").restore_optimizer(plain)
    assert plain.param_groups[0]["fused"] is None
    assert plain.param_groups[0]["foreach"] is True
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    plain.step()
    assert all(state["step"] == 2 for state in plain.state.values())


@pytest.mark.parametrize(
    "entry",
    [object(), Path("x"), {1.5: 2}, [torch.nn.Linear(1, 1)], {"deep": {"deeper": {3}}}, torch.float32],
)
def test_what_would_not_load_is_refused_and_the_old_file_kept(tmp_path, entry):
    path = tmp_path / "a.pt"
    save_checkpoint(path, checkpoint_of(modules()))
    before = path.read_bytes()
    with pytest.raises(TypeError, match=r"`checkpoint\['progress'\]"):
        save_checkpoint(path, dataclasses.replace(checkpoint_of(modules()), progress={"x": entry}))
    assert path.read_bytes() == before


def rewrite(path: Path, **changes: object) -> None:
    content = torch.load(path, weights_only=True)
    content.update(changes)
    torch.save({key: value for key, value in content.items() if value != "removed"}, path)


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=f"there is no checkpoint `{re.escape(str(tmp_path))}/no.pt`"):
        load_checkpoint(tmp_path / "no.pt")


def test_a_file_without_permission_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    save_checkpoint(path, checkpoint_of(modules()))

    def closed(*arguments: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "a.pt")

    monkeypatch.setattr("builtins.open", closed)
    with pytest.raises(CheckpointError, match=r"checkpoint `.*a\.pt` cannot be read: Permission denied$"):
        load_checkpoint(path)


@pytest.mark.parametrize("kept", [0.001, 0.3, 0.9, 0.999])
def test_truncated_file(tmp_path, kept):
    path = tmp_path / "a.pt"
    save_checkpoint(path, checkpoint_of(modules()))
    content = path.read_bytes()
    path.write_bytes(content[: max(4, int(kept * len(content)))])
    with pytest.raises(CheckpointError, match=r"a\.pt` is truncated"):
        load_checkpoint(path)


def test_changed_byte_is_found_wherever_it_is(tmp_path):
    path = tmp_path / "a.pt"
    marker = torch.full((64,), 1.0)
    save_checkpoint(path, Checkpoint(0, {"model": {"weight": marker}}))
    content = bytearray(path.read_bytes())
    content[content.index(b"\x00\x00\x80\x3f" * 8) + 9] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pt` is corrupt"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x02}q\x00."])
def test_file_of_another_kind(tmp_path, content):
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pt` is not a checkpoint"):
        load_checkpoint(path)


def test_other_things_saved_by_torch(tmp_path):
    path = tmp_path / "a.pt"
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(CheckpointError, match=r"a\.pt` is not a checkpoint"):
        load_checkpoint(path)
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(CheckpointError, match=r"a\.pt` is not a checkpoint .*other than tensors"):
        load_checkpoint(path)


def test_newer_format_and_missing_entry(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, checkpoint_of(modules()))
    rewrite(path, format_version=FORMAT_VERSION + 1, package_version="9.9")
    with pytest.raises(
        CheckpointError, match=rf"has format {FORMAT_VERSION + 1}, of whatwhere 9\.9; this is"
    ):
        load_checkpoint(path)
    rewrite(path, format_version=FORMAT_VERSION, step="removed")
    with pytest.raises(CheckpointError, match="lacks `step`"):
        load_checkpoint(path)


def test_other_configuration_names_the_fields(tmp_path):
    save_checkpoint(tmp_path / "a.pt", checkpoint_of(modules()))
    loaded = load_checkpoint(tmp_path / "a.pt")
    loaded.require_configuration({"seed": 3, "loop": {"steps": 9}})
    with pytest.raises(
        CheckpointError, match=r"a\.pt` .*: `seed` was 3 and is now 4; `loop\.steps` was 9 and is now 8$"
    ):
        loaded.require_configuration({"seed": 4, "loop": {"steps": 8}})


@dataclasses.dataclass(frozen=True)
class Loop:
    steps: int = 9
    later: float = 0.5


@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 3
    loop: Loop = Loop()
    also_later: bool = False


def test_a_field_of_a_later_version_has_its_default():
    earlier = Checkpoint(0, {}, configuration={"seed": 3, "loop": {"steps": 9}})
    earlier.require_configuration(Config())
    with pytest.raises(CheckpointError, match=r"`loop\.later` was 0\.5 and is now 0\.6$"):
        earlier.require_configuration(Config(loop=Loop(later=0.6)))
    with pytest.raises(CheckpointError, match=r"`also_later` was False and is now True$"):
        earlier.require_configuration(Config(also_later=True))
    with pytest.raises(CheckpointError, match="`foreign` was 1 and is now 'absent'"):
        Checkpoint(0, {}, configuration={"seed": 3, "foreign": 1}).require_configuration(Config())


@pytest.mark.parametrize(
    ("guide", "message"),
    [
        (nn.Linear(2, 4), r"shape of `guide\.weight` \(3, 2\) there, \(4, 2\) here"),
        (nn.Linear(2, 3, bias=False), r"unexpected entry `guide\.bias`"),
        (nn.Bilinear(2, 2, 3), r"shape of `guide\.weight` \(3, 2\) there, \(3, 2, 2\) here"),
        (nn.Sequential(nn.Linear(2, 3)), r"no entry `guide\.0\.weight`, `guide\.0\.bias`; unexpected entry"),
    ],
)
def test_modules_of_another_form_are_named_and_nothing_is_changed(tmp_path, guide, message):
    save_checkpoint(tmp_path / "a.pt", checkpoint_of(modules()))
    others = {**modules(), "guide": guide}
    before = {key: value.clone() for key, value in others["model"].state_dict().items()}
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(tmp_path / "a.pt").restore_modules(others)
    assert f"{tmp_path}/a.pt" in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in others["model"].state_dict().items())


def test_modules_of_other_names(tmp_path):
    save_checkpoint(tmp_path / "a.pt", checkpoint_of(modules()))
    loaded = load_checkpoint(tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="unexpected module `guide`"):
        loaded.restore_modules({"model": modules()["model"]})
    loaded.restore_modules({"model": modules()["model"]}, subset=True)
    with pytest.raises(CheckpointError, match="no module `prior`"):
        loaded.restore_modules({**modules(), "prior": nn.Linear(1, 1)}, subset=True)


def test_other_optimizers(tmp_path):
    module = nn.Linear(2, 2)
    save_checkpoint(tmp_path / "a.pt", checkpoint_of({"m": module}, stepped(module)))
    loaded = load_checkpoint(tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="of the optimiser `Adam`, not of `RMSPropTF`"):
        loaded.restore_optimizer(RMSPropTF(module.parameters()))
    with pytest.raises(CheckpointError, match=r"\[2\] parameters per group, this one has \[1\]"):
        loaded.restore_optimizer(torch.optim.Adam([module.weight]))
    with pytest.raises(CheckpointError, match="no optimiser state"):
        dataclasses.replace(loaded, optimizer=None).restore_optimizer(torch.optim.Adam([module.weight]))


GROUP = {"params": [0]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modules": None}, "`modules` is None, not a dict"),
        ({"modules": {"model": []}}, "`modules.model` is a list, not a dict"),
        ({"modules": {3: {}}}, "`modules: key 3` is an int, not a str"),
        ({"configuration": None}, "`configuration` is None, not a dict"),
        ({"configuration": {"seed": torch.ones(2)}}, "`configuration.seed` is a Tensor, not a number, text"),
        ({"configuration": {"loop": {1: 2}}}, "`configuration.loop: key 1` is an int"),
        ({"step": "7"}, "`step` is a str, not an int"),
        ({"step": True}, "`step` is a bool, not an int"),
        ({"step": -1}, "`step` is negative"),
        ({"seed": None}, "`seed` is None, not an int"),
        ({"metrics": {"bound": "high"}}, "`metrics.bound` is a str, not a float"),
        ({"progress": []}, "`progress` is a list, not a dict"),
        ({"optimizer": {}}, "`optimizer` lacks `name`"),
        ({"optimizer": {"name": "Adam", "state": {"state": {}}}}, "`optimizer.state` lacks `param_groups`"),
        (
            {"optimizer": {"name": "Adam", "state": {"state": {}, "param_groups": [{}]}}},
            "`optimizer.state.param_groups[0]` lacks `params`",
        ),
        (
            {"optimizer": {"name": "Adam", "state": {"state": {"0": {}}, "param_groups": [GROUP]}}},
            "`optimizer.state.state: key '0'` is a str, not an int",
        ),
        ({"data": {"train": {}}}, "`data.train` lacks `source`"),
        ({"kind": 3}, "`kind` is an int, not a str"),
        ({"package_version": None}, "`package_version` is None, not a str"),
    ],
)
def test_what_is_of_another_type_is_named_before_anything_is_restored(tmp_path, changes, message):
    path = tmp_path / "a.pt"
    save_checkpoint(path, checkpoint_of(modules()))
    rewrite(path, **changes)
    with pytest.raises(CheckpointError, match=re.escape(f"checkpoint `{path}` is damaged: {message}")):
        load_checkpoint(path)


def test_a_dictionary_that_is_in_itself(tmp_path):
    path = tmp_path / "a.pt"
    endless: dict[str, object] = {}
    endless["again"] = endless
    save_checkpoint(path, checkpoint_of(modules()))
    rewrite(path, configuration=endless)
    with pytest.raises(CheckpointError, match=r"a\.pt` is damaged: it holds .* in itself"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"garbage", b"\x80\x02}q\x00(X\x04"])
def test_a_damaged_pickle(tmp_path, content):
    path, damaged = tmp_path / "a.pt", tmp_path / "b.pt"
    save_checkpoint(path, checkpoint_of(modules()))
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(damaged, "w") as new:
        for info in old.infolist():
            whole = old.read(info)
            new.writestr(info.filename, content if info.filename.endswith("data.pkl") else whole)
    with pytest.raises(CheckpointError, match=r"b\.pt` is (corrupt|not a checkpoint)"):
        load_checkpoint(damaged)


def test_what_would_unpack_to_more_than_the_file_has(tmp_path):
    path, packed = tmp_path / "a.pt", tmp_path / "b.pt"
    save_checkpoint(path, checkpoint_of(modules()))
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    with pytest.raises(CheckpointError, match=r"b\.pt` is corrupt: .* is compressed"):
        load_checkpoint(packed)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("0.weight", torch.full((2, 3), math.nan), r"not finite `model\.0\.weight`"),
        ("0.weight", torch.full((2, 3), math.inf), r"not finite `model\.0\.weight`"),
        ("1.running_mean", torch.tensor([0.0, math.nan]), r"not finite `model\.1\.running_mean`"),
        ("0.bias", None, r"`model\.0\.bias` is None, not a dense Tensor"),
        ("0.bias", torch.zeros(2).to_sparse(), r"`model\.0\.bias` is a Tensor"),
    ],
)
def test_entries_that_are_spoilt_are_named_and_nothing_is_changed(tmp_path, name, value, message):
    path = tmp_path / "a.pt"
    saved = checkpoint_of(modules())
    save_checkpoint(path, saved)
    rewrite(path, modules={**saved.modules, "model": {**saved.modules["model"], name: value}})
    others = modules()
    before = copy.deepcopy(others["guide"].state_dict())
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path).restore_modules(others)
    assert all(torch.equal(value, before[key]) for key, value in others["guide"].state_dict().items())


def test_an_infinite_buffer_may_be_the_logit_of_what_is_certain(tmp_path):
    saved = checkpoint_of(modules())
    saved.modules["model"]["1.running_mean"] = torch.tensor([-math.inf, 0.0])
    save_checkpoint(tmp_path / "a.pt", saved)
    others = modules()
    load_checkpoint(tmp_path / "a.pt").restore_modules(others)
    assert others["model"][1].running_mean.tolist() == [-math.inf, 0.0]


def optimizers(module: nn.Module) -> list[torch.optim.Optimizer]:
    return [
        make_optimizer("adam", module.parameters(), 0.1),
        make_optimizer("adamw", module.parameters(), 0.1, amsgrad=True),
        make_optimizer("rmsprop", module.parameters(), 0.1, centered=True),
        make_optimizer("sgd", module.parameters(), 0.1, momentum=0.9),
        torch.optim.Adagrad(module.parameters()),
        torch.optim.Adafactor(module.parameters()),
    ]


@pytest.mark.parametrize("which", range(6))
def test_the_state_of_every_optimizer_is_taken_as_it_is(which):
    module = nn.Linear(3, 2)
    optimizer = optimizers(module)[which]
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = {"name": type(optimizer).__name__, "state": copy.deepcopy(optimizer.state_dict())}
    other = optimizers(nn.Linear(3, 2))[which]
    Checkpoint(1, {}, state).restore_optimizer(other)
    for mine, theirs in zip(optimizer.state.values(), other.state.values(), strict=True):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(torch.as_tensor(mine[key]), torch.as_tensor(theirs[key])) for key in mine)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda entry: entry.update(exp_avg=torch.zeros(2)),
            "`exp_avg` of `weight` has the shape",
        ),
        (lambda entry: entry.update(exp_avg=None), "`exp_avg` of `weight` is a NoneType"),
        (lambda entry: entry.update(step="many"), "`step` of `weight` is a str"),
        (lambda entry: entry.update(step=torch.zeros(5)), r"`step` of `weight` has the shape \(5,\)"),
        (lambda entry: entry["exp_avg_sq"].fill_(math.nan), "`exp_avg_sq` of `weight` is not finite"),
        (lambda entry: entry.pop("exp_avg_sq"), "`weight` has no `exp_avg_sq`"),
        (lambda entry: entry.update(sum=torch.zeros(2, 3)), "`weight` has an unexpected `sum`"),
    ],
)
def test_another_state_of_an_optimizer_names_the_parameter_and_changes_nothing(change, message):
    module = nn.Linear(3, 2)
    optimizer = stepped(module, fused=True)
    state = copy.deepcopy(optimizer.state_dict())
    change(state["state"][0])
    names = {parameter: name for name, parameter in module.named_parameters()}
    checkpoint = Checkpoint(1, {}, {"name": "Adam", "state": state})
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(CheckpointError, match=message):
        checkpoint.restore_optimizer(optimizer, names)
    after = optimizer.state_dict()["state"]
    for i, entry in before["state"].items():
        assert all(torch.equal(after[i][key], value) for key, value in entry.items())


@pytest.mark.parametrize(
    ("option", "value"),
    [("lr", math.nan), ("lr", "fast"), ("betas", (0.9,)), ("betas", None), ("amsgrad", 3)],
)
def test_options_of_an_optimizer_are_of_their_kind(option, value):
    module = nn.Linear(3, 2)
    optimizer = stepped(module)
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0][option] = value
    with pytest.raises(CheckpointError, match=f"its `{option}` is "):
        Checkpoint(1, {}, {"name": "Adam", "state": state}).restore_optimizer(optimizer)


KILLED = textwrap.dedent(
    """
    import json, os, random, signal, sys, time
    import torch
    from whatwhere.inference.training import Checkpoint, load_checkpoint, save_checkpoint

    path, rng, steps, interrupted = sys.argv[1], random.Random(0), [0], 0
    save_checkpoint(path, Checkpoint(0, {"m": {"w": torch.zeros(500_000)}}))
    while len(steps) <= 25 or (interrupted < 3 and len(steps) < 200):
        child = os.fork()
        if child == 0:
            step = steps[-1]
            while True:
                step += 1
                save_checkpoint(path, Checkpoint(step, {"m": {"w": torch.full((500_000,), float(step))}}))
        # On a busy machine the writer needs longer to get anywhere.
        time.sleep(rng.uniform(0.005, 0.06) * max(1, len(steps) / 25))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        loaded = load_checkpoint(path)  # raises where the file is not whole
        assert bool((loaded.modules["m"]["w"] == loaded.step).all())
        steps.append(loaded.step)
        interrupted += any(name.endswith(".tmp") for name in os.listdir(os.path.dirname(path)))
    print(json.dumps({"steps": steps, "interrupted": interrupted}))
    """
)


def test_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "a.pt")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["steps"] == sorted(result["steps"])
    assert result["steps"][-1] > 5
    assert result["interrupted"] >= 3, "the writer was hardly ever killed while it wrote"
