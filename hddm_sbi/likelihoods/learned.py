"""What all learned likelihoods have in common: weights in a file, and a card that says what made them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn
from typing_extensions import override

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.card import Card, save_weights
from hddm_sbi.likelihoods.likelihood import Likelihood, Simulator


class LearnedLikelihood(Likelihood):
    """A likelihood learned from simulations.

    network: trained weights, used in float64. box: where it was trained. card: what made it, and how good it is,
    without which it cannot be saved.
    """

    kind = "neural"

    def __init__(
        self, simulator: Simulator, network: nn.Module, box: Mapping[str, tuple[float, float]], card: Card | None = None
    ) -> None:
        super().__init__(simulator, box)
        self.network, self.card = network.double().eval().requires_grad_(False), card

    @property
    @override
    def sha256(self) -> str:  # type: ignore[override]
        """Seal of the weights and their card; "" where there is none."""
        return self.card.sha256 if self.card else ""

    def save(self, path: str | Path) -> None:
        """Write the weights (safetensors) and beside them the card (JSON) for `hs.load_likelihood(path)`.

        Parameters
        ----------
        path
            Of the `.safetensors` file; the card has the same name with `.json`.

        Raises
        ------
        InputError
            The likelihood has no card, because it was not trained by this package.

        Examples
        --------
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import hddm_sbi as hs
        >>> with TemporaryDirectory() as folder:
        ...     hs.load_likelihood("ddm").save(Path(folder) / "mine.safetensors")
        ...     hs.load_likelihood(Path(folder) / "mine.safetensors")
        MixtureLikelihood(ddm: v a z t0, solved equations, KL 1.3e-6)
        """
        if self.card is None:
            raise InputError(f"{self!r} has no card, which says what made it; only trained likelihoods are saved.")
        self.card = save_weights(self.network, self.card, Path(path))

    @override
    def _summary(self) -> str:
        return super()._summary() + (f", {self.card.summary()}" if self.card else "")
