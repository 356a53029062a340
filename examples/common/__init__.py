"""What several programs share: the frame of a command line, data and training of videos, and of trackers.

`program.py` is the frame. Programs of generative models of videos share `video_models.py` (data, evaluation,
pictures) and `video_training.py`; those of trackers `tracking_data.py`, `tracking_training.py`,
`tracking_report.py` (numbers and pictures of held-out videos) and `tracking.py` (a user's own video).

Programs import from here, never from each other. What one program alone uses is in `examples.parts`.
"""
