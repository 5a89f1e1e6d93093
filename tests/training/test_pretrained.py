"""Every likelihood in the package: its card is true, and it agrees with the closed form where there is one."""

import numpy as np
import pytest
import torch
from laws import random_thetas

from hddm_sbi.likelihoods import checkpoint
from hddm_sbi.likelihoods.catalogue import load_likelihood, load_simulator, names, reference, weights_of
from hddm_sbi.likelihoods.decision import outcome_rows
from hddm_sbi.likelihoods.exact import ExactLikelihood
from hddm_sbi.likelihoods.numerical import NumericalLikelihood
from hddm_sbi.training import accuracy
from hddm_sbi.training.shipped import targets, verdicts

PRETRAINED = [name for name in names() if weights_of(name) is not None]
#: judged by an equation; those without are held against simulations (test_laws.py).
SOLVED = [name for name in PRETRAINED if isinstance(reference(load_simulator(name)), NumericalLikelihood)]


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_card_names_the_file_beside_it_and_meets_the_targets(name):
    weights, simulator = weights_of(name), load_simulator(name)
    card = checkpoint.read_card(weights)
    assert checkpoint.seal(card, weights.read_bytes()) == card.sha256
    assert card.discretisation == simulator.discretisation
    assert card.scored_by == f"hddm-sbi check {weights.stem}"
    of_family = (simulator.family, {p.name: (p.low, p.high) for p in simulator.learned})
    assert (card.model, card.box) in ((name, simulator.box), of_family)
    assert card.scores.trials_per_set == targets(simulator).trials_per_set
    assert [score for score, (*_, passed) in verdicts(card.scores, targets(simulator)).items() if not passed] == []


@pytest.mark.parametrize("name", SOLVED)
def test_it_agrees_with_the_equation(name):
    """40 thetas, 150 trials each, as accurate as its card says. Between seeds, the mean |error| of 60 thetas varied by
    5 % of its value."""
    likelihood, simulator = load_likelihood(name), load_simulator(name)
    theta = np.repeat(random_thetas(simulator, 40, seed=22), 150, axis=0)
    rt, choice = simulator.simulate(theta, 22)
    at = outcome_rows(rt, choice), torch.as_tensor(theta)
    error = (NumericalLikelihood(simulator).log_prob_rows(*at) - likelihood.log_prob_rows(*at)).numpy()
    # KL by the control variate q/p - 1, whose mean is 0.
    divergence = (np.expm1(-error) + error).reshape(40, 150).mean(1)
    card = checkpoint.read_card(weights_of(name)).scores
    assert np.abs(error).mean() <= 1.2 * card.mean_abs_error_whole_box
    assert divergence.mean() <= 1.2 * card.KL_whole_box + 5 * divergence.std() / np.sqrt(40)


@pytest.mark.parametrize("name", [name for name in PRETRAINED if load_simulator(name).log_density is not None])
def test_it_agrees_with_the_closed_form(name):
    """20 000 trials, each with a theta of its own, as accurate as the card says: the mean |error| has a standard error
    below 4 % of its value. Where a network of one accumulator serves more than two, the errors of all add up."""
    likelihood, exact = load_likelihood(name), ExactLikelihood(load_simulator(name))
    result = accuracy.accuracy(likelihood, exact, likelihood.box, 20_000, seed=21)
    card = checkpoint.read_card(weights_of(name)).scores
    more = len(likelihood.simulator.choices) / 2 if weights_of(name).stem != name else 1
    assert result.mean_abs_error <= 1.2 * more * card.mean_abs_error_whole_box
    assert result.kl <= 1.2 * more * card.KL_whole_box + 5 * result.kl_se
