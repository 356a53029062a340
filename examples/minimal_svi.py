"""AIR with nothing but Pyro's own training loop: `pyro.infer.SVI`, `pyro.optim`, and this project's VIMCO.

    python -m whatwhere.examples.minimal_svi

`whatwhere.examples.air` has what a real run needs: held-out evaluation, checkpoints, schedules, pictures.
"""

import pyro
import torch
from pyro.infer import SVI
from pyro.optim import Adam

from whatwhere.datasets import BatchSchedule, PyroRecipe, multi_object_images
from whatwhere.guides import AIRGuide
from whatwhere.inference.objectives import VIMCO
from whatwhere.models import AIR


def main(steps: int = 2_000, batch_size: int = 64, images: int = 5_000) -> float:
    """Train, and return the share of the last batch's images whose objects are counted correctly."""
    pyro.clear_param_store()  # which knows parameters by name, those of another run in this process too
    pyro.set_rng_seed(0)
    data = multi_object_images(PyroRecipe(), "train", images, seed=0, source="glyphs")
    schedule = BatchSchedule(len(data), batch_size, seed=0)
    model, guide = AIR(), AIRGuide()
    svi = SVI(model, guide, Adam({"lr": 1e-3}), loss=VIMCO(num_particles=5))
    accuracy = 0.0
    for step in range(steps):
        batch = data.batch(schedule.indices(step))
        loss = svi.step(batch.images)
        if step % 100 == 0 or step == steps - 1:
            with torch.no_grad():
                counts = guide(batch.images).z_pres.sum(-1)
            assert batch.count is not None  # generated images have labels
            accuracy = (counts == batch.count[:, 0]).float().mean().item()
            print(
                f"step {step}: bound {-loss / batch_size:.1f} nats per image, count accuracy {accuracy:.0%}"
            )
    return accuracy


if __name__ == "__main__":
    main()
