"""Pictures of single digits, whatever their source."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..errors import DataError

Split = Literal["train", "test"]


@dataclass(frozen=True, eq=False)
class Digits:
    """Pictures of single digits, from MNIST or any source of the same form.

    Raises:
        DataError: if a field has a wrong type, shape or value.
    """

    images: npt.NDArray[np.uint8]
    """White ink on black `(n, 28, 28)`, uint8."""
    labels: npt.NDArray[np.uint8]
    """The digit in each picture `(n,)`, uint8 in 0..9."""

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.shape[1:] != (28, 28) or not len(self.images):
            raise DataError(
                "`images` must be uint8 of shape (n, 28, 28), n > 0, "
                f"got {self.images.dtype} of {self.images.shape}."
            )
        if self.labels.dtype != np.uint8 or self.labels.shape != self.images.shape[:1]:
            raise DataError(
                f"`labels` must be uint8 of shape ({len(self.images)},) to agree with `images`, "
                f"got {self.labels.dtype} of {self.labels.shape}."
            )
        if self.labels.max() > 9:
            raise DataError(f"`labels` must be digits 0 to 9, got {self.labels.max()}.")

    def __len__(self) -> int:
        return len(self.images)
