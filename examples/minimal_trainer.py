"""SQAIR with a part of one's own, and the project's trainer: log, checkpoints, exact resumption.

    python -m whatwhere.examples.minimal_trainer

`whatwhere-sqair train --build package.module:function` trains such a model with all that a real run needs.
"""

from pathlib import Path

import torch

from whatwhere.datasets import MovingDigitsRecipe, moving_digit_videos, schedule_for
from whatwhere.examples.sqair import NetworkConfig, PriorConfig, build
from whatwhere.inference.objectives import VIMCO
from whatwhere.inference.training import Trainer, TrainingConfig, make_optimizer
from whatwhere.models.components import TrackedSlots
from whatwhere.models.priors import Propagation, RecurrentPropagationPrior


class Steady(RecurrentPropagationPrior):
    """Objects stay where they are, but for what is predicted."""

    def forward(self, slots: TrackedSlots) -> Propagation:
        """Predict all slots at once."""
        said = super().forward(slots)
        return said._replace(where=said.where._replace(loc=slots.z_where + said.where.loc))


def main(steps: int = 2_000, batch_size: int = 32, output: Path = Path("runs/minimal")) -> float:
    """Train, or go on from the checkpoint in `output`; returns the last bound, in nats per video."""
    torch.manual_seed(0)
    videos = moving_digit_videos(MovingDigitsRecipe(), "train", 10_000, seed=0, source="glyphs")
    schedule = schedule_for(videos, batch_size, seed=0)
    model, guide = build(NetworkConfig(image_shape=(1, 50, 50)), PriorConfig())
    model.propagation_prior = Steady(what_size=50)
    objective = VIMCO(num_particles=5, reduction="mean")(model, guide)
    optimizer = make_optimizer("adam", objective.parameters(), 3e-4)
    trainer = Trainer(
        objective,
        optimizer,
        lambda step: (videos.batch(schedule.indices(step)).video[:, :3],),
        TrainingConfig(steps=steps),
        folder=output,
        modules={"model": model, "guide": guide},
    )
    trainer.resume_existing()
    print(trainer.run().message)
    with torch.no_grad():
        return -float(objective(videos.batch(range(batch_size)).video[:, :3])[0])


if __name__ == "__main__":
    main()
