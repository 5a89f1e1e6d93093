"""Seeds that follow from seeds."""

from collections.abc import Sequence
from typing import Literal

import numpy as np


def derive_seed(*parts: int | Sequence[int], bits: Literal[32, 63, 64] = 32) -> int:
    """One seed from several whole numbers, as a seed and a position; its stream is independent of all others.

    bits: size of the seed; torch takes at most 63.

    >>> derive_seed(1, 2) == derive_seed(1, 2), derive_seed(1, 2) == derive_seed(2, 1)
    (True, False)
    """
    sequence = np.random.SeedSequence(parts)
    if bits == 32:
        return int(sequence.generate_state(1)[0])
    return int(sequence.generate_state(1, np.uint64)[0]) >> (64 - bits)
