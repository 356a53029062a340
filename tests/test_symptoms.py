"""What `docs/troubleshooting.md` shows is what happens."""

import importlib.util
import re
from pathlib import Path

import torch

DOCS = Path(__file__).parents[1] / "docs"


def load():
    spec = importlib.util.spec_from_file_location("symptoms", DOCS / "symptoms.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SYMPTOMS = load()


def test_every_symptom_that_can_be_provoked_is_shown_and_every_picture_can_be_made_again():
    shown = re.findall(r"\(symptoms/([\w-]+)\.png\)", (DOCS / "troubleshooting.md").read_text())
    assert sorted(shown) == sorted(SYMPTOMS.SYMPTOMS)
    assert sorted(path.stem for path in (DOCS / "symptoms").iterdir()) == sorted(shown)


def test_a_grey_ground_takes_all_slots_and_a_black_one_does_not():
    video = SYMPTOMS.packaged_video()
    _, tracks = SYMPTOMS.follow(torch.cat([SYMPTOMS.on_grey(video), video]))
    assert tracks.present.sum(-1).tolist() == [[3] * 10, [2] * 10]


def test_a_guide_that_lets_go_has_new_identities_in_every_frame():
    video = SYMPTOMS.packaged_video()[:, :3]
    names = [SYMPTOMS.follow(video, let_go)[1].identities[0].tolist() for let_go in (True, False)]
    lost, kept = ([{name for name in frame if name >= 0} for frame in video] for video in names)
    assert not lost[0] & lost[1]
    assert not lost[1] & lost[2]
    assert kept == [{0, 1}] * 3
