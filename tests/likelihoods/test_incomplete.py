"""Trials without a time, without a response, without either, and tables from which trials were removed: laws of every
likelihood of rt and response, and its kernels against quadrature and many digits."""

from dataclasses import replace

import mpmath
import numpy as np
import pyro
import pytest
import torch
from laws import LIKELIHOODS, OWN, load, random_thetas

import hddm_sbi as hs
from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.cells import Events, Ranges
from hddm_sbi.likelihoods.decision import DecisionLikelihood, outcome_rows
from hddm_sbi.likelihoods.lapse_law import LapseLaw
from hddm_sbi.simulation import Observation

NAMES = [("ddm", "exact"), ("lba", "exact"), ("ddm", "neural"), ("race3", "neural"), ("full_ddm", "neural"), OWN]
EVERY = [*LIKELIHOODS, OWN]
LAPSE, NO_LAPSE = (torch.tensor(x, dtype=torch.float64) for x in (0.05, 0.0))
DEADLINE, SECONDS = 1.2, 10.0


@pytest.fixture(scope="module", params=NAMES, ids=[" ".join(each) for each in NAMES])
def likelihood(request):
    return load(*request.param)


def observation(likelihood, n, **said):
    """Trials with a deadline, of which nothing is missing by chance."""
    plain = {
        "deadline": np.full(n, DEADLINE),
        "withheld": None,
        "censored": (np.zeros(n), np.full(n, np.inf)),
        "truncated": (np.zeros(n), np.full(n, np.inf)),
        "timed": np.ones(n, bool),
        "answered": np.ones(n, bool),
    }
    return Observation(len(likelihood.simulator.choices), **(plain | said))


def table(likelihood, seed=1, n_cells=4, n=40, **said):
    """Trials of some cells as they are seen, a fifth of each kind of missing, their ranges, cells and theta."""
    theta = random_thetas(likelihood.simulator, n_cells, seed, margin=0.3)
    cell = np.repeat(np.arange(n_cells), n // n_cells)
    values = np.stack(likelihood.simulator.simulate(theta[cell], seed), -1)
    masks = {"timed": np.arange(n) % 5 != 2, "answered": np.arange(n) % 5 != 3}
    seen = observation(likelihood, n, **masks, **said)
    known = seen.seen(values)
    removed = seen.removed(values)
    known[removed] = [0.9, 0.0]
    return known, seen, cell, torch.tensor(theta)


def grouped(likelihood, known, seen, cell):
    n_cells = int(cell.max()) + 1
    return likelihood.group_by_cell(known, cell, n_cells, SECONDS, seen)


def probability(likelihood, low, high, row, lapse=LAPSE):
    """Of one event, times by choice."""
    ranges = Ranges(*(np.array([end], dtype=np.float64) for end in (low, high)))
    events = Events(np.zeros(1, dtype=np.int64), ranges, np.ones(1))
    law = LapseLaw((1.0,) * len(low), SECONDS)
    return float(likelihood.events_by_cell(events, row, lapse.expand(1), law).exp()[0])


@pytest.mark.parametrize("lapse", [0.0, 0.05])
def test_all_outcomes_add_to_one(likelihood, lapse):
    """Responses before the deadline and omissions; and the responses before it are those of the density, by quadrature
    (400 nodes between the non-decision time and the deadline, 1e-4)."""
    lapse = torch.tensor(lapse, dtype=torch.float64)
    row = torch.tensor(random_thetas(likelihood.simulator, 1, 3, margin=0.4))
    n_choices = len(likelihood.simulator.choices)
    given = np.eye(n_choices, dtype=bool)
    omitted = probability(likelihood, [DEADLINE] * n_choices, [np.inf] * n_choices, row, lapse)
    untimed = [probability(likelihood, np.where(own, 0.0, 1.0), own * DEADLINE, row, lapse) for own in given]
    assert omitted + sum(untimed) == pytest.approx(1.0, abs=1e-8)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    t0 = float(row[0, likelihood.simulator.names.index("t0")])
    total = float(lapse) * t0 / SECONDS
    rt = t0 + 0.5 * (DEADLINE - t0) * (1 + nodes)
    cell = np.zeros(len(rt), dtype=np.int64)
    seen = observation(likelihood, len(rt), answered=np.zeros(len(rt), bool))
    known = seen.seen(np.stack([rt, np.zeros_like(rt)], 1))
    density = likelihood.log_prob_by_trial(grouped(likelihood, known, seen, cell), row, lapse).exp().numpy()
    total += 0.5 * (DEADLINE - t0) * float(weights @ density)
    assert total == pytest.approx(sum(untimed), abs=1e-4)
    each = [
        likelihood.log_prob_by_trial(
            likelihood.group_by_cell(outcome_rows(rt, np.full(len(rt), c)).numpy(), cell, 1, SECONDS), row, lapse
        )
        for c in range(n_choices)
    ]
    np.testing.assert_allclose(sum(log_p.exp().numpy() for log_p in each), density, rtol=1e-10)


#: what is said of a table of 40 trials: nothing; those outside 0.6 to 4 s were removed.
WHOLE, TRUNCATED = {}, {"deadline": np.full(40, np.inf), "truncated": (np.full(40, 0.6), np.full(40, 4.0))}


@pytest.mark.parametrize("said", [WHOLE, TRUNCATED], ids=["whole", "truncated"])
def test_cells_are_sums_of_rows(likelihood, said):
    """In the order of the table, whole trials and incomplete ones."""
    known, seen, cell, theta = table(likelihood, **said)
    shuffled = np.random.default_rng(1).permutation(len(known))
    known, cell = known[shuffled], cell[shuffled]
    trials = grouped(likelihood, known, seen, cell)
    assert sorted([*trials.order, *trials.incomplete.order]) == list(range(len(known)))
    rows = likelihood.log_prob_by_trial(trials, theta, LAPSE).numpy()
    np.testing.assert_allclose(likelihood.log_prob_by_cell(trials, theta, LAPSE), np.bincount(cell, rows), rtol=1e-9)
    ranges, kept, i = seen.ranges(known), seen.kept, int(np.flatnonzero(np.isnan(known).any(1))[0])
    row = theta[cell[i] : cell[i] + 1]
    alone = probability(likelihood, *(end[i] for end in ranges), row)
    among = 1.0 if kept is None else probability(likelihood, *(end[i] for end in kept), row)
    assert np.exp(rows[i]) == pytest.approx(alone / among, rel=1e-9)


@pytest.mark.parametrize("said", [WHOLE, TRUNCATED], ids=["whole", "truncated"])
def test_gradient_agrees_with_differences(likelihood, said):
    known, seen, cell, theta = table(likelihood, **said)
    trials = grouped(likelihood, known, seen, cell)
    at, lapse = theta.clone().requires_grad_(), LAPSE.clone().requires_grad_()
    gradient = torch.autograd.grad(likelihood.log_prob_by_cell(trials, at, lapse).sum(), (at, lapse))
    for column in range(theta.shape[1]):
        step = torch.zeros(theta.shape[1]).double().index_fill(0, torch.tensor(column), 1e-5)
        up, down = (likelihood.log_prob_by_cell(trials, theta + sign * step, LAPSE) for sign in (1, -1))
        torch.testing.assert_close(gradient[0][:, column], (up - down) / 2e-5, rtol=1e-4, atol=1e-4)
    up, down = (likelihood.log_prob_by_cell(trials, theta, LAPSE + sign * 1e-6).sum() for sign in (1, -1))
    torch.testing.assert_close(gradient[1], (up - down) / 2e-6, rtol=1e-5, atol=1e-5)


def test_a_withheld_response_without_a_deadline_is_a_choice(likelihood):
    """Its probability to 1e-6 of `choice_probabilities`, a lapse of it included; the gradient is finite."""
    simulator, n = likelihood.simulator, 3
    theta = torch.tensor(random_thetas(simulator, n, 2, margin=0.3), requires_grad=True)
    seen = observation(likelihood, n, deadline=np.full(n, np.inf), withheld=0)
    trials = grouped(likelihood, np.full((n, 2), np.nan), seen, np.arange(n))
    found = likelihood.log_prob_by_trial(trials, theta, LAPSE)
    by_name = dict(zip(simulator.names, theta.detach().numpy().T, strict=True))
    chosen = np.asarray(likelihood.choice_probabilities(by_name))[:, 0]
    share = 1 / len(simulator.choices)
    np.testing.assert_allclose(found.exp().detach(), 0.95 * chosen + 0.05 * share, rtol=1e-6)
    total = likelihood.log_prob_by_cell(trials, theta, LAPSE).sum()
    assert torch.isfinite(torch.autograd.grad(total, theta)[0]).all()


def test_a_mask_of_nothing_changes_no_bit(likelihood):
    theta = random_thetas(likelihood.simulator, 4, 5, margin=0.3)
    cell = np.repeat(np.arange(4), 10)
    values = np.stack(likelihood.simulator.simulate(theta[cell], 5), -1)
    plain = likelihood.group_by_cell(values, cell, 4)
    everything = observation(likelihood, len(values), deadline=np.full(len(values), np.inf))
    masked = grouped(likelihood, values, everything, cell)
    assert masked.incomplete is None
    one, other = (likelihood.log_prob_by_cell(t, torch.tensor(theta), LAPSE) for t in (plain, masked))
    assert torch.equal(one, other)
    known, seen, cell, theta = table(likelihood)
    trials = grouped(likelihood, known, seen, cell)
    complete = replace(trials, incomplete=None)
    alone = likelihood.group_by_cell(known[trials.order], cell[trials.order], 4, trials.lapses.seconds)
    one, other = (likelihood.log_prob_by_cell(t, theta, LAPSE) for t in (complete, alone))
    assert torch.equal(one, other)


def test_what_is_missing_needs_a_reason():
    likelihood = hs.load_likelihood("ddm", kind="exact")
    with pytest.raises(InputError, match=r"observation= says how trials were seen; row 1"):
        likelihood.group_by_cell(np.array([[0.5, 1.0], [np.nan, np.nan]]), np.zeros(2, dtype=np.int64), 1)


def test_the_compiled_density_has_them(likelihood):
    """The path is compiled; its value is torch's, and its gradient that of central differences."""
    known, seen, cell, theta = table(likelihood, truncated=(np.full(40, 0.6), np.full(40, np.inf)))
    trials = grouped(likelihood, known, seen, cell)

    def model():
        normal = pyro.distributions.Normal(torch.zeros(theta.shape).double(), 1.0).to_event(2)
        lapse = pyro.sample("lapse", pyro.distributions.Beta(torch.tensor(2.0).double(), 98.0))
        x = pyro.sample("x", normal)
        pyro.factor("trials", likelihood.log_prob_by_cell(trials, theta + 0.01 * x, lapse).sum())

    start = {"x": torch.zeros(theta.shape).double(), "lapse": torch.tensor(0.03).double()}
    compiled, eager = (hs.flatten(model, start, path) for path in ("compiled", "eager"))
    assert compiled.path == "compiled"
    at = compiled.start
    value, gradient = compiled(at)
    assert value == pytest.approx(eager(at)[0], rel=1e-12)
    np.testing.assert_allclose(gradient, eager(at)[1], rtol=1e-9, atol=1e-9)
    steps = 1e-4 * np.eye(len(at))
    slopes = [(compiled(at + step)[0] - compiled(at - step)[0]) / 2e-4 for step in steps]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-4, atol=1e-5)


def events_of_every_kind(likelihood, seed, n_thetas=3):
    """Theta of every event and the events, each in a cell of its own, times from 0.05 to 4 s after the non-decision
    time: omissions, responses of any kind or one kind before a deadline, between two times, at a time, withheld, and
    what is impossible."""
    simulator = likelihood.simulator
    n_choices, rng = len(simulator.choices), np.random.default_rng(seed)
    theta = random_thetas(simulator, n_thetas, seed)
    theta, low, high = [*np.repeat(theta, 8, 0)], [], []
    for i, row in enumerate(theta):
        t = row[simulator.names.index("t0")] + np.exp(rng.uniform(-3.0, 1.4))
        only = np.arange(n_choices) == i % n_choices
        either = np.zeros(n_choices), np.full(n_choices, t)
        kinds = [
            (either[1], np.full(n_choices, np.inf)),
            either,
            (np.where(only, 0.0, 1.0), np.where(only, t, 0.0)),
            (np.where(only, 0.0, t), np.full(n_choices, np.inf)),
            (np.where(only, t, 1.0), np.where(only, t + 0.3, 0.0)),
            (either[1], either[1] + 0.05),
            (either[1], either[1]),
            (np.zeros(n_choices), np.full(n_choices, 0.9 * row[simulator.names.index("t0")])),
        ]
        low.append(kinds[i % 8][0])
        high.append(kinds[i % 8][1])
    ranges = Ranges(np.array(low, dtype=np.float64), np.array(high, dtype=np.float64))
    weight = np.where(np.arange(len(theta)) % 3 == 0, -2.0, 1.0)
    return torch.tensor(np.array(theta)), Events(np.arange(len(theta)), ranges, weight)


@pytest.mark.parametrize(("name", "kind"), EVERY, ids=[" ".join(each) for each in EVERY])
@pytest.mark.parametrize("lapse", [0.0, 0.05])
def test_kernels_agree_with_quadrature(name, kind, lapse):
    """All of the box: log P to 1e-8, its gradients to 1e-6; impossible events have P 0 and gradient 0, never nan.
    Lapses are exponential in time, of unlike responses, and every event has a share of its own.

    Under a delay, whose density is no smooth function where its end passes the non-decision time, the distribution
    function in closed form takes the place of quadrature.
    """
    likelihood = load(name, kind)
    theta, events = events_of_every_kind(likelihood, seed=4)
    split = np.arange(1.0, 1.0 + len(likelihood.simulator.choices))
    lapses, results = LapseLaw(tuple(split / split.sum()), 0.0, mean=1.3), []
    for by_kernel in (True, False):
        at, share = theta.clone().requires_grad_(), (lapse * torch.linspace(1.0, 19.0, len(theta)).double())
        law = likelihood.events_by_cell if by_kernel else reference(likelihood)
        value = law(events, at, share.requires_grad_(lapse > 0), lapses)
        possible = torch.isfinite(value)
        total = torch.where(possible, value, 0.0).sum()
        by_theta, *by_share = torch.autograd.grad(total, (at, share) if lapse else (at,))
        results.append((value.detach(), by_theta, *by_share))
    (value, gradient, *by_share), (expected, slope, *slope_of_share) = results
    torch.testing.assert_close(by_share, slope_of_share, rtol=1e-6, atol=1e-6)
    assert not torch.isnan(gradient).any()
    impossible = torch.arange(len(value)) % 8 == 7
    assert (gradient[impossible] == 0.0).all()
    assert torch.isfinite(value[impossible]).all() if lapse else torch.isinf(value[impossible]).all()
    torch.testing.assert_close(value, expected, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(gradient, slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "kind"), EVERY, ids=[" ".join(each) for each in EVERY])
def test_omissions_side_by_side_are_those_one_by_one(name, kind):
    """300 omissions of a cell at times of their own, from before the non-decision time to where nothing survives, with
    other events between them: the sum of log P, and its gradients, are those of a cell for each. Two thetas; where
    there is a delay, one of them has next to none."""
    likelihood = load(name, kind)
    simulator, n = likelihood.simulator, 300
    n_choices, rng = len(simulator.choices), np.random.default_rng(5)
    theta = random_thetas(simulator, 2, 6, margin=0.2)
    if simulator.symmetries.delay is not None:
        theta[1, simulator.names.index(simulator.symmetries.delay)] = 1e-6
    cell = np.repeat([0, 1], n)
    t = theta[cell, simulator.names.index("t0")] + np.where(
        np.arange(2 * n) % 50 == 0, -0.1, np.exp(rng.normal(0, 1.5, 2 * n))
    )
    between = np.arange(2 * n) % 40 == 7
    low = np.repeat(np.where(between, 0.0, t)[:, None], n_choices, 1)
    high = np.repeat(np.where(between, t, np.inf)[:, None], n_choices, 1)
    events = Events(cell, Ranges(low, high), rng.choice([1.0, 3.0, 0.0], 2 * n))
    lapses = LapseLaw((1.0,) * n_choices, SECONDS)
    results = []
    for together in (True, False):
        at = torch.tensor(theta, requires_grad=True)
        share = torch.tensor([0.05, 0.2], dtype=torch.float64, requires_grad=True)
        if together:
            value = likelihood.events_by_cell(events, at, share, lapses)
        else:
            alone = replace(events, cell=np.arange(2 * n))
            each = likelihood.events_by_cell(alone, at[cell], share[cell], lapses)
            value = torch.stack([each[cell == c].sum() for c in (0, 1)])
        results.append((value.detach(), *torch.autograd.grad(value.sum(), (at, share))))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def reference(likelihood):
    """`events_by_cell` of a likelihood by another way than its kernel."""
    delay = likelihood.simulator.symmetries.delay
    way = ByDensity if likelihood.kind == "exact" or delay is None else ByDistributionFunction
    return way(likelihood).events_by_cell


class ByDensity(DecisionLikelihood):
    """A likelihood that says its density alone: masses are integrals."""

    kind = "numerical"

    def __init__(self, likelihood):
        super().__init__(likelihood.simulator, likelihood.box)
        self.likelihood = likelihood

    def log_prob_rows(self, values, theta):
        return self.likelihood.log_prob_rows(values, theta)

    def log_prob_at(self, values, theta, row):
        return self.likelihood.log_prob_at(values, theta, row)


class ByDistributionFunction(ByDensity):
    """One whose masses are differences of its distribution function, where these are not rounding."""

    def _log_mass_of(self, choice, low, high, theta, row):
        after, before = (self.likelihood.cdf_rows(outcome_rows(t, choice), theta[row]) for t in (high, low))
        likely = (low < high) & (after - before > 1e-6)
        others = super()._log_mass_of(choice, torch.where(likely, 1.0, low), torch.where(likely, 0.0, high), theta, row)
        return torch.where(likely, torch.log(torch.where(likely, after - before, 1.0)), others)


def late_ddm(t, choice, v, a, z, t0):
    """P(choice, RT > t) from the eigenfunctions: the terms of Navarro & Fuss (2009), integrated; all of mpmath."""
    area, sign, w = (2 * a) ** 2, 1 - 2 * choice, z if choice == 0 else 1 - z
    total = mpmath.mpf(0)
    for k in range(1, 120):
        rate = v**2 / 2 + (k * mpmath.pi) ** 2 / (2 * area)
        total += k * mpmath.sin(k * mpmath.pi * w) * mpmath.exp(-rate * (t - t0)) / rate
    return mpmath.pi / area * mpmath.exp(-sign * v * 2 * a * w) * total


def all_of_ddm(choice, v, a, z, t0):
    """P(choice)."""
    up = z if v == 0 else mpmath.expm1(-4 * a * z * v) / mpmath.expm1(-4 * a * v)
    return up if choice == 1 else 1 - up


def test_ddm_agrees_with_many_digits():
    """24 thetas of the box, at half a second to where 1e-200 survive: omissions, responses before a deadline and after
    it, withheld responses, by the kernel; log P to 1e-9, and the slope by v and t0 of log P(omission) to 1e-7."""
    exact = hs.load_likelihood("ddm", kind="exact")
    theta = random_thetas(exact.simulator, 24, seed=11)
    rng, far = np.random.default_rng(11), np.linspace(0.0, 1.0, 24) ** 3
    rate = 0.5 * theta[:, 0] ** 2 + np.pi**2 / (8 * theta[:, 1] ** 2)
    t = theta[:, 3] + np.maximum(0.05 * theta[:, 1] ** 2, rng.uniform(0.2, 1.0, 24) + far * 460.0 / rate)
    nothing, forever = np.zeros_like(t), np.full_like(t, np.inf)
    kinds = {
        "omission": ((t, forever), (t, forever)),
        "before": ((nothing, t), (nothing + 1, nothing)),
        "after": ((nothing + 1, nothing), (t, forever)),
        "withheld": ((nothing, forever), (t, forever)),
    }
    with mpmath.workdps(60):
        for kind, by_choice in kinds.items():
            low, high = (np.ascontiguousarray(np.stack(ends, 1)) for ends in zip(*by_choice, strict=True))
            events = Events(np.arange(24), Ranges(low, high), np.ones(24))
            at = torch.tensor(theta, requires_grad=True)
            found = exact.events_by_cell(events, at, NO_LAPSE.expand(24), LapseLaw((1.0, 1.0), SECONDS))
            (gradient,) = torch.autograd.grad(found.sum(), at)
            for i, row in enumerate(theta):
                point, when = [mpmath.mpf(x) for x in row], mpmath.mpf(t[i])

                def expected(v, a, z, t0, when=when, kind=kind):
                    lower, upper = (late_ddm(when, c, v, a, z, t0) for c in (0, 1))
                    lower_all = all_of_ddm(0, v, a, z, t0)
                    masses = {"omission": lower + upper, "before": lower_all - lower, "after": upper}
                    return mpmath.log(masses.get(kind, lower_all + upper))

                assert abs(float(found[i].detach()) - expected(*point)) < 1e-9, (kind, row, t[i])
                if kind == "omission" and i % 4 == 0:
                    for j in (0, 3):
                        slope = mpmath.diff(lambda x, j=j, p=point: expected(*p[:j], x, *p[j + 1 :]), point[j])
                        assert float(gradient[i, j]) == pytest.approx(float(slope), rel=1e-7, abs=1e-7)


def test_what_was_removed_divides():
    """Truncated to 0.5 to 1 s: each whole trial is its density over the probability of being kept."""
    exact = hs.load_likelihood("ddm", kind="exact")
    row = torch.tensor([[1.0, 1.1, 0.45, 0.3]], dtype=torch.float64)
    values, cell = np.array([[0.6, 1.0], [0.8, 0.0], [0.9, 1.0]]), np.zeros(3, dtype=np.int64)
    limits = {"deadline": np.full(3, np.inf), "truncated": (np.full(3, 0.5), np.full(3, 1.0))}
    trials = exact.group_by_cell(values, cell, 1, SECONDS, observation(exact, 3, **limits))
    mass = probability(exact, [0.5, 0.5], [1.0, 1.0], row, NO_LAPSE)
    by_survival = exact.survival([0.5, 1.0], dict(zip(exact.simulator.names, row[0].tolist(), strict=True)))
    assert mass == pytest.approx(float(by_survival[0] - by_survival[1]), rel=1e-10)
    whole = exact.log_prob_rows(torch.tensor(values), row.expand(3, -1))
    found = exact.log_prob_by_trial(trials, row, NO_LAPSE)
    np.testing.assert_allclose(found, whole - np.log(mass), rtol=1e-9)
    assert float(exact.log_prob_by_cell(trials, row, NO_LAPSE)[0]) == pytest.approx(float(found.sum()), rel=1e-12)


def test_an_event_that_counts_for_nothing_is_not_looked_at():
    """Of weight 0, it is 0 even where it is impossible."""
    for name, kind in NAMES:
        likelihood = load(name, kind)
        n_choices = len(likelihood.simulator.choices)
        ranges = Ranges(np.zeros((1, n_choices)), np.full((1, n_choices), 1e-3))
        row = torch.tensor(random_thetas(likelihood.simulator, 1, 3, margin=0.4))
        events = Events(np.zeros(1, dtype=np.int64), ranges, np.zeros(1))
        given = events, row, NO_LAPSE.expand(1), LapseLaw((1.0,) * n_choices, SECONDS)
        assert float(likelihood.events_by_cell(*given)[0]) == 0.0
        assert float(DecisionLikelihood.events_by_cell(likelihood, *given)[0]) == 0.0
