"""What happens to files: a bit or some bytes changed, cut off, or repeated."""

import numpy as np


def mutated(content: bytes, kind: int, rng: np.random.Generator) -> bytes:
    """A file with one bit flipped, its end cut off, a part repeated, or eight bytes replaced, by `kind` modulo 4."""
    changed = bytearray(content)
    at = int(rng.integers(len(changed)))
    match kind % 4:
        case 0:
            changed[at] ^= 1 << int(rng.integers(8))
        case 1:
            del changed[at:]
        case 2:
            changed[at:at] = changed[at : at + int(rng.integers(1, 100))] * int(rng.integers(1, 50))
        case _:
            changed[at : at + 8] = rng.bytes(8)
    return bytes(changed)
