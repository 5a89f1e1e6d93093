"""One chain on disk: its draws, and the values of its density, so that it goes on after its process died."""

from __future__ import annotations

import os
from pathlib import Path
from zlib import crc32

import numpy as np

from hddm_sbi.inference.density import Evaluate
from hddm_sbi.types import Array

#: bytes of evaluations that wait in memory; a process that is killed loses them.
_BUFFER = 1 << 12
_DRAWS, _EVALUATIONS = "draws", "evaluations"


class ChainFiles:
    """The files of one chain: `NAME.draws`, rows of n numbers, and `NAME.evaluations`.

    A chain follows from its seed and its density: started again it asks for the same values at the same points. What it
    was told before comes from the file, in microseconds, and only then from the density. A row of evaluations is a
    checksum of the point and of what follows, the log density, and its gradient (n). Where the checksum differs (a
    damaged file, another machine), the rest of the file is discarded and computed anew.

    name: path without the ending. size: n. evaluate: the density and its gradient. failure: why something could not be
    written; the chain goes on without its files.
    """

    def __init__(self, name: Path, size: int, evaluate: Evaluate) -> None:
        self.failure: OSError | None = None
        self._evaluate, self._row = evaluate, np.empty(size + 2)
        self._paths = {kind: name.with_name(f"{name.name}.{kind}") for kind in (_DRAWS, _EVALUATIONS)}
        name.parent.mkdir(parents=True, exist_ok=True)
        self._draws = os.open(self._paths[_DRAWS], os.O_RDWR | os.O_CREAT, 0o644)
        self._file = self._paths[_EVALUATIONS].open("ab", buffering=_BUFFER)
        rows = self._file.tell() // self._row.nbytes
        self._file.truncate(rows * self._row.nbytes)
        path, shape = self._paths[_EVALUATIONS], (rows, size + 2)
        self._known: Array = np.memmap(path, np.float64, "r", shape=shape) if rows else np.empty(shape)
        self._position = 0

    def evaluate(self, y: Array) -> tuple[float, Array]:
        """The log density and its gradient at y: those on file, or else new ones, which are added to the file."""
        if self._position < len(self._known):
            row = np.array(self._known[self._position])
            if row[0] == _checksum(y, row):
                self._position += 1
                return float(row[1]), row[2:]
            self._discard()
        value, gradient = self._evaluate(y)
        if self.failure is None:
            self._row[1], self._row[2:] = value, gradient
            self._row[0] = _checksum(y, self._row)
            try:
                self._file.write(self._row.tobytes())
            except OSError as failure:
                self.failure = failure
        return value, gradient

    def keep(self, position: int, x: Array) -> None:
        """Write a draw at its place."""
        if self.failure is None:
            try:
                os.pwrite(self._draws, np.ascontiguousarray(x).tobytes(), position * x.nbytes)
            except OSError as failure:
                self.failure = failure

    def close(self) -> None:
        """Write what waits in memory."""
        os.close(self._draws)
        try:
            self._file.close()
        except OSError as failure:
            self.failure = self.failure or failure

    def _discard(self) -> None:
        """Forget the evaluations from the present one on."""
        self._known = self._known[: self._position]
        try:
            self._file.truncate(self._position * self._row.nbytes)
        except OSError as failure:
            self.failure = failure


def _checksum(y: Array, row: Array) -> float:
    return float(crc32(row[1:].tobytes(), crc32(y.tobytes())))
