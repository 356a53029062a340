"""What several programs share: the frame of a command line, data and training of videos, and of trackers.

Programs import from here, never from each other. What one program alone uses is in `examples.parts`.
"""
