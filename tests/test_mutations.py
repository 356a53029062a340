"""Damaged and misleading files of every format that is read: thousands of seeded mutations.

As a program it reads mutated files one by one, and prints a line for each: `python tests/test_mutations.py
FORMAT FIRST STOP FOLDER`.
"""

import gzip
import json
import re
import resource
import signal
import struct
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from whatwhere.checks import UserError
from whatwhere.datasets import (
    KITTIRecipe,
    SceneRecipe,
    VideoData,
    VideoStore,
    check,
    kitti_parts,
    load_clips,
    load_folder,
    load_otb,
    load_scenes,
    load_tld,
    open_frames,
    read_kth_annotation,
    save_video,
)
from whatwhere.datasets.generated.mnist import read_idx
from whatwhere.inference.evaluation import read_tracks, write_tracks
from whatwhere.inference.training import Checkpoint, JSONLog, load_checkpoint, read_log, save_checkpoint

FAST = 22
"""Mutations of each format that are always tried; a checkpoint's last one claims several disks."""
SLOW = 130
"""Those that `pytest -m slow` tries."""
UNSUSPICIOUS = 64 * 2**20
"""So much a file may claim that has few bytes."""
SECONDS = 30
"""After which a mutation counts as one that hangs."""

# Smooth, so that formats with loss are small; of 12 frames, so that there are blocks to exchange.
_RAMP = np.add.outer(np.arange(24), np.arange(32)) * 3
FRAMES = np.stack([np.stack([_RAMP + 7 * t, _RAMP[::-1], _RAMP], -1) for t in range(12)]).astype(np.uint8)


@dataclass(frozen=True)
class Format:
    """A kind of files, and all that reads them."""

    name: str
    """What it is called."""
    make: Callable[[Path], Path]
    """Makes a good example in a folder, and returns the file that is mutated."""
    read: Callable[[Path], int]
    """Reads what was made, in every way there is, and returns how many bytes it has in memory."""
    text: bool = False
    """Numbers are exchanged, too."""
    declared: type[Exception] = UserError
    """What reading may raise."""


def _image(suffix: str, **options: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / f"0.{suffix}"
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "a picture"
        Image.fromarray(FRAMES[0]).save(path, exif=exif, **options)
        return path

    return make


def _read_image(path: Path) -> int:
    sizes = [load_folder(path.parent).data.video.nbytes, load_clips(path.parent).video.nbytes]
    return max(*sizes, *(frame.nbytes for frame in open_frames(path.parent)))


def _film(name: str, codec: str, pixels: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import av

        with av.open(str(folder / name), "w") as container:
            container.metadata["title"] = "a film"
            stream: Any = container.add_stream(codec, rate=25)
            stream.height, stream.width = FRAMES.shape[1:3]
            stream.pix_fmt = pixels
            for frame in FRAMES:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        return folder / name

    return make


def _make_gif(folder: Path) -> Path:
    pictures = [Image.fromarray(frame).quantize(32) for frame in FRAMES]
    pictures[0].save(folder / "clip.gif", save_all=True, append_images=pictures[1:])
    return folder / "clip.gif"


def _videos() -> VideoData:
    video = np.ascontiguousarray(FRAMES.transpose(0, 3, 1, 2).reshape(3, 4, 3, 24, 32))
    return VideoData(
        video,
        count=np.ones((3, 4), np.int64),
        classes=np.arange(3)[:, None],
        boxes=np.tile(np.float32([3, 4, 5, 6]), (3, 4, 1, 1)),
        visible=np.ones((3, 4, 1), np.float32),
        groups=np.arange(3),
        names=np.array(["a", "b", "ä"]),
    )


def _make_archive(folder: Path) -> Path:
    data = _videos()
    np.savez_compressed(folder / "clips.npz", video=data.video / np.float32(255), **data.labels())
    return folder / "clips.npz"


def _make_store(folder: Path) -> Path:
    save_video(folder / "clips.h5", _videos(), parameters={"a": [1, 2]}, seed=3)
    return folder / "clips.h5"


def _read_clips(path: Path) -> int:
    sizes = []
    for read in (_read_frames, lambda path: load_clips(path).video.nbytes):
        try:
            sizes.append(read(path))
        except UserError as error:
            refused = error
    if not sizes:
        raise refused
    return max(sizes)


def _read_frames(path: Path) -> int:
    video = open_frames(path, size=(12, 16), channels=3)
    return sum(frame.nbytes for frame in video)


def _read_store(path: Path) -> int:
    str(check(path))
    size = _read_clips(path)
    VideoStore(path).batch([0])
    return size


def _make_idx(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        content = b"\0\0\x08\x03" + struct.pack(">III", 12, 24, 32) + FRAMES[..., 0].tobytes()
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return folder / name

    return make


def _with_images(folder: Path, name: str, text: str, start: int = 0) -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    images = folder / ("image_02/0001" if "label" in name else "img")
    images.mkdir(parents=True)
    for number, frame in enumerate(FRAMES, start):
        Image.fromarray(frame).save(images / f"{number:06}.png")
    return folder / name


def _make_boxes(folder: Path) -> Path:
    rows = [f"{frame},{who},{frame},2,{4 + who},6.5" for who in range(2) for frame in range(12)]
    return _with_images(folder, "boxes.csv", "\n".join(["frame,id,x,y,w,h", *rows]) + "\n")


def _make_kitti(folder: Path) -> Path:
    row = "{} {} Car 0 0 -1.57 {} 2.5 12 9 1.5 1.6 3.7 -2.4 1.8 13.2 -1.7"
    rows = [row.format(frame, who, 1 + frame / 4) for frame in range(12) for who in range(2)]
    return _with_images(folder, "label_02/0001.txt", "\n".join(rows) + "\n")


def _make_otb(folder: Path) -> Path:
    rows = [f"{frame + 1},2,5,6" for frame in range(12)]
    return _with_images(folder, "groundtruth_rect.txt", "\n".join(rows) + "\n", 1)


def _make_tld(folder: Path) -> Path:
    rows = [f"{frame},2,{frame + 5},8" for frame in range(11)] + ["NaN,NaN,NaN,NaN"]
    return _with_images(folder, "gt.txt", "\n".join(rows) + "\n")


def _make_kth(folder: Path) -> Path:
    rows = [f"{who} 1 5 1 3 6 " + "10 20 90 60 " * 4 for who in (1, 2, 3)]
    (folder / "boxes.txt").write_text("\n".join(rows) + "\n")
    return folder / "boxes.txt"


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def _make_checkpoint(folder: Path) -> Path:
    model = _model()
    optimizer = torch.optim.Adam(model.parameters())
    state = {"name": "Adam", "state": optimizer.state_dict()}
    saved = {"model": model.state_dict()}
    save_checkpoint(folder / "a.pt", Checkpoint(7, saved, state, {"seed": 1}, {"bound": 1.5}))
    return folder / "a.pt"


def _read_checkpoint(path: Path) -> int:
    checkpoint, model = load_checkpoint(path), _model()
    checkpoint.restore_modules({"model": model})
    checkpoint.restore_optimizer(torch.optim.Adam(model.parameters()))
    checkpoint.require_configuration({"seed": 1})
    return path.stat().st_size


def _make_log(folder: Path) -> Path:
    lines = [json.dumps({"event": "train", "step": step, "loss": step / 3}) for step in range(30)]
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "log.jsonl"


def _read_log(path: Path) -> int:
    size = path.stat().st_size
    read_log(path, "train")
    JSONLog(path, 10).close()
    return size


def _make_tracks(folder: Path) -> Path:
    boxes, there = torch.rand(2, 6, 3, 4) + 1, torch.ones(2, 6, 3, dtype=torch.bool)
    write_tracks(folder / "tracks.csv", boxes, there, torch.arange(3).expand(2, 6, 3))
    return folder / "tracks.csv"


def _read_tracks(path: Path) -> int:
    return 7 * read_tracks(path).boxes.nbytes


FORMATS = {
    form.name: form
    for form in (
        Format("png", _image("png"), _read_image),
        Format("jpeg", _image("jpg"), _read_image),
        Format("bmp", _image("bmp"), _read_image),
        Format("tiff", _image("tif", compression="tiff_lzw"), _read_image),
        Format("webp", _image("webp", lossless=True), _read_image),
        Format("gif", _make_gif, _read_clips),
        Format("avi", _film("clip.avi", "mpeg4", "yuv420p"), _read_clips),
        Format("mp4", _film("clip.mp4", "mpeg4", "yuv420p"), _read_clips),
        Format("npz", _make_archive, _read_clips),
        Format("hdf5", _make_store, _read_store),
        Format("idx", _make_idx("digits"), lambda path: read_idx(path).nbytes),
        Format("idx_gz", _make_idx("digits.gz"), lambda path: read_idx(path).nbytes),
        Format(
            "boxes",
            _make_boxes,
            lambda path: load_scenes(path.parent, SceneRecipe(size=(24, 32))).data.video.nbytes,
            text=True,
        ),
        Format(
            "kitti",
            _make_kitti,
            lambda path: sum(
                part.video.nbytes for part in kitti_parts(path.parents[1], KITTIRecipe(size=(24, 32)))
            ),
            text=True,
        ),
        Format(
            "otb", _make_otb, lambda path: load_otb(path.parent, size=(24, 32)).data.video.nbytes, text=True
        ),
        Format(
            "tld", _make_tld, lambda path: load_tld(path.parent, size=(24, 32)).data.video.nbytes, text=True
        ),
        Format(
            "kth",
            _make_kth,
            lambda path: sum(clip.boxes.nbytes for clip in read_kth_annotation(path)),
            text=True,
        ),
        Format("checkpoint", _make_checkpoint, _read_checkpoint),
        Format("log", _make_log, _read_log, text=True, declared=ValueError),
        Format("tracks", _make_tracks, _read_tracks, text=True),
    )
}


# Mutations

_CLAIMS = (0, 1, 255, 65_535, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 10**6, 10**9)
_WORDS = (
    b"nan",
    b"inf",
    b"-1",
    b"1e308",
    b"-1.7e308",
    b"9" * 30,
    b"9" * 5000,
    b"",
    b"0",
    b"x",
    b"1e9",
    b"\0",
    b'"',
)


def mutated(content: bytes, rng: np.random.Generator, text: bool) -> bytes:
    """The content of a file with one to three damages or misleading claims."""
    for _ in range(rng.integers(1, 4)):
        choices = (_flip, _flip, _truncate, _insert, _repeat, _remove, _blank, _claim, _claim, _claim)
        change = _exchange_number if text and rng.random() < 0.6 else choices[rng.integers(len(choices))]
        content = change(content, rng)
    return content


def _place(content: bytes, rng: np.random.Generator) -> int:
    # Every other one in the first bytes, where most claims are.
    return int(rng.integers(max(1, min(len(content), 200 if rng.random() < 0.5 else 2**31))))


def _flip(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        if changed:
            changed[_place(content, rng)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _truncate(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: _place(content, rng)]


def _insert(content: bytes, rng: np.random.Generator) -> bytes:
    place = _place(content, rng)
    return content[:place] + rng.bytes(int(rng.integers(1, 64))) + content[place:]


def _repeat(content: bytes, rng: np.random.Generator) -> bytes:
    place, length = _place(content, rng), int(rng.integers(1, 512))
    return content[: place + length] + content[place:]


def _remove(content: bytes, rng: np.random.Generator) -> bytes:
    place, length = _place(content, rng), int(rng.integers(1, 64))
    return content[:place] + content[place + length :]


def _blank(content: bytes, rng: np.random.Generator) -> bytes:
    place, length = _place(content, rng), int(rng.integers(1, 32))
    return content[:place] + bytes(min(length, len(content) - place)) + content[place + length :]


def _claim(content: bytes, rng: np.random.Generator) -> bytes:
    """A number of 2, 4 or 8 bytes becomes another one, in either order."""
    place, size = _place(content, rng), int(rng.choice([2, 4, 8]))
    value = int(rng.choice(_CLAIMS)) % 2 ** (8 * size)
    order: Any = "little" if rng.random() < 0.5 else "big"
    return content[:place] + value.to_bytes(size, order) + content[place + size :]


def _exchange_number(content: bytes, rng: np.random.Generator) -> bytes:
    found = list(re.finditer(rb"[-+0-9.eE]+", content))
    if not found:
        return content
    match = found[rng.integers(len(found))]
    return content[: match.start()] + _WORDS[rng.integers(len(_WORDS))] + content[match.end() :]


def attempt(form: Format, path: Path, content: bytes, number: int) -> tuple[str, int]:
    """Reads one mutation: what came of it, `read`, `refused` or the name of an error, and its bytes."""
    rng = np.random.default_rng([number, *form.name.encode()])
    path.write_bytes(mutated(content, rng, form.text))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return "read", form.read(path)
    except form.declared as error:
        message = str(error)
        unnamed = path.parent.name not in message and path.name not in message
        return ("unnamed: " + message[:80] if unnamed else "refused"), 0
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:80]!r}", 0


@pytest.mark.parametrize("name", list(FORMATS))
def test_damaged_files_are_read_or_refused(tmp_path: Path, name: str) -> None:
    form = FORMATS[name]
    path = form.make(tmp_path)
    content = path.read_bytes()
    assert form.read(path) > 0
    outcomes = {number: attempt(form, path, content, number)[0] for number in range(FAST)}
    assert not {number: outcome for number, outcome in outcomes.items() if outcome not in ("read", "refused")}
    assert "refused" in outcomes.values()


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FORMATS))
def test_damaged_files_cost_neither_time_nor_memory(tmp_path: Path, name: str) -> None:
    report = campaign(name, SLOW, tmp_path)
    print(f"{name}: {dict(report.outcomes)}, {report.worst:.0f} MiB above what is allowed at most")
    assert not report.faults


@dataclass
class CampaignReport:
    """What came of all mutations of a format."""

    outcomes: Counter[str]
    """How many were read, refused, ..."""
    worst: float
    """The most memory that one took, in MiB, above twice its decoded size."""
    faults: list[str]
    """The mutations that end otherwise, with their numbers."""


def campaign(name: str, count: int, folder: Path) -> CampaignReport:
    """All mutations of a format, in processes of their own, each with a limit of memory and time."""
    report = CampaignReport(Counter(), 0.0, [])
    first = 0
    while first < count:
        command = [sys.executable, __file__, name, str(first), str(count), str(folder / f"from{first}")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for line in child.stdout:
                number, outcome, excess = line.rstrip("\n").split("\t")
                first = int(number) + 1
                report.outcomes[outcome if outcome in ("read", "refused") else "fault"] += 1
                report.worst = max(report.worst, float(excess))
                if outcome not in ("read", "refused"):
                    report.faults.append(f"{name} {number}: {outcome}")
                if float(excess) > 0:
                    report.faults.append(f"{name} {number}: {excess} MiB too much memory")
        if child.returncode:  # crashed, or ended by its alarm
            report.faults.append(f"{name} {first}: exit code {child.returncode}")
            report.outcomes["fault"] += 1
            first += 1
    return report


def _peak() -> int:
    """The greatest size of this process's memory since `_reset_peak`, in bytes."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main(name: str, first: int, stop: int, folder: Path) -> None:
    """Reads mutations one after the other; a process that hangs ends by its alarm."""
    form = FORMATS[name]
    folder.mkdir(parents=True)
    path = form.make(folder)
    content = path.read_bytes()
    original = form.read(path)  # imports too
    for number in range(1_000_000, 1_000_010):  # what libraries keep
        attempt(form, path, content, number)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**31, used + 2**31))
    for number in range(first, stop):
        signal.alarm(SECONDS)
        _reset_peak()
        before = _peak()
        outcome, size = attempt(form, path, content, number)
        excess = _peak() - before - 2 * max(size, original) - UNSUSPICIOUS
        print(number, " ".join(outcome.split()), f"{max(0, excess) / 2**20:.1f}", sep="\t", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
