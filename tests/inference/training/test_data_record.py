import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from whatwhere.inference.training import (
    Checkpoint,
    CheckpointError,
    DataRecord,
    load_checkpoint,
    save_checkpoint,
    source_field,
    to_primitives,
    whole_source,
)

SHAPE = (3, 1, 1, 4, 5)
LABELS = {"count": np.array([[1], [0], [2]]), "names": np.array(["a.png", "b.png", "ü.png"])}
SAMPLE = np.arange(60, dtype=np.uint8).reshape(3, 1, 4, 5)


def record(source="/here/imgs", shape=SHAPE, labels=LABELS, sample=SAMPLE) -> DataRecord:
    return DataRecord.of(source, shape, labels, sample)


def test_the_same_data_are_the_same_wherever_they_lie():
    again = {name: value.copy() for name, value in reversed(LABELS.items())}
    assert record().changes(record(labels=again, sample=SAMPLE.copy())) == []
    assert record().changes(record("/there/imgs")) == []
    assert record("glyphs").changes(record("glyphs")) == []
    assert record("folders:/here/videos").changes(record("folders:/there/videos")) == []
    assert record("folders:/here/videos").changes(record("ntu:/here/videos")) != []


@pytest.mark.parametrize(
    ("changed", "change"),
    [
        ({"source": "glyphs"}, "they are `glyphs` and were `/here/imgs`"),
        ({"shape": (5, *SHAPE[1:])}, "they are 5 and were 3"),
        ({"shape": (3, 1, 3, 4, 5)}, "their sizes are (1, 3, 4, 5) and were (1, 1, 4, 5)"),
        ({"labels": {**LABELS, "count": np.array([[1], [1], [2]])}}, "`count` differ"),
        ({"labels": {**LABELS, "names": np.array(["a.png", "c.png", "ü.png"])}}, "`names` differ"),
        ({"labels": {**LABELS, "names": np.array(["a.png", "b.png", "ü.pngs"])}}, "`names` differ"),
        ({"labels": {"names": LABELS["names"]}}, "`count` differ"),
        ({"labels": {**LABELS, "boxes": np.zeros((3, 1, 2, 4))}}, "`boxes` differ"),
        ({"sample": SAMPLE[::-1]}, "their pixels differ"),
    ],
)
def test_a_change_is_named(changed, change):
    assert record().changes(record(**changed)) == [change]


def test_generated_data_are_known_by_their_name():
    made, other = (record(f"pasted:/{place}", labels=None, sample=None) for place in ("here", "there"))
    assert made.changes(other) == ["they are `pasted:/there` and were `pasted:/here`"]
    assert record("glyphs", sample=None).changes(record("mnist", sample=None)) == [
        "they are `mnist` and were `glyphs`"
    ]
    assert record("glyphs", sample=None).changes(record("glyphs", shape=(4, *SHAPE[1:]), sample=None)) == [
        "they are 4 and were 3"
    ]


def test_a_checkpoint_keeps_records_and_refuses_other_data(tmp_path: Path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, Checkpoint(1, {}, data={"train": record(), "test": record("glyphs", sample=None)}))
    loaded = load_checkpoint(path)
    assert loaded.data == {"train": record(), "test": record("glyphs", sample=None)}
    loaded.require_data({"train": record("/there"), "another": record(shape=(9,))})
    other = {"train": record(shape=(4, *SHAPE[1:])), "test": record("glyphs", labels={}, sample=None)}
    with pytest.raises(CheckpointError) as caught:
        loaded.require_data(other)
    assert str(caught.value) == (
        f"checkpoint `{path}` was trained with other data: `train`: they are 4 and were 3; "
        "`test`: `count` differ; `test`: `names` differ"
    )


def test_whole_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.chdir(tmp_path)
    assert whole_source("~/imgs") == "/home/someone/imgs"
    assert whole_source("imgs") == os.path.join(tmp_path, "imgs")
    assert whole_source("/a/../imgs") == "/imgs"
    assert whole_source("glyphs", names=("glyphs",)) == "glyphs"


@dataclass(frozen=True)
class Data:
    source: str = source_field("glyphs")
    size: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", whole_source(self.source, ("glyphs",)))


@dataclass(frozen=True)
class Config:
    data: Data = Data()


def test_data_may_move_if_there_is_a_record_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    moved = Config(Data("/there/imgs"))
    checkpoint = Checkpoint(1, {}, configuration=to_primitives(Config(Data("/here/imgs"))))
    with pytest.raises(CheckpointError, match=r"`data\.source` was '/here/imgs' and is now '/there/imgs'"):
        checkpoint.require_configuration(moved)
    known = replace(checkpoint, data={"train": record()})
    known.require_configuration(moved)
    with pytest.raises(CheckpointError, match=r"`data\.size` was 3 and is now 4"):
        known.require_configuration(Config(Data("/there/imgs", size=4)))
    # A checkpoint of earlier, whose path is not whole.
    relative = replace(checkpoint, configuration=to_primitives(Config(Data("imgs"))))
    relative.require_configuration(Config(Data(str(tmp_path / "imgs"))))
