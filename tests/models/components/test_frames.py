from whatwhere.models.components.frames import Frames


def test_state_goes_from_frame_to_frame():
    frames = Frames(10, [lambda state, t=t: (f"frame {t} after {state}", state + t) for t in range(1, 4)])
    assert frames.run() == ["frame 1 after 10", "frame 2 after 11", "frame 3 after 13"]


def test_no_frames_say_nothing():
    assert Frames(None, []).run() == []
