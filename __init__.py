"""Object-centric generative models and attentive trackers in PyTorch and Pyro.

The package is organised by the halves of a structured variational auto-encoder:

- `whatwhere.models`: generative models, their priors and the networks they are built of;
- `whatwhere.guides`: the inference half of each model;
- `whatwhere.inference`: objectives, training, evaluation and checkpoints, for any model and guide;
- `whatwhere.datasets`: generated and real data, and how they are stored;
- `whatwhere.examples`: one command-line program per task.
"""

from ._version import __version__

__all__ = ["__version__"]
