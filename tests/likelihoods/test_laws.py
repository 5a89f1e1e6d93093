"""Laws of every model of the catalogue, and of each of its likelihoods: a new model is tested by existing."""

import inspect
import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from laws import FALSE_ALARM, LIKELIHOODS, by_name, chi_square_p, edges_of, power_at, random_thetas
from scipy.special import expit

import hddm_sbi as hs
from hddm_sbi.data.trials import check_table
from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.catalogue import load_simulator, names
from hddm_sbi.likelihoods.decision import SortedTrials, outcome_rows
from hddm_sbi.likelihoods.likelihood import shift_of


@pytest.fixture(scope="module", params=names())
def simulator(request):
    return load_simulator(request.param)


@pytest.fixture(scope="module", params=LIKELIHOODS, ids=[" ".join(each) for each in LIKELIHOODS])
def likelihood(request):
    name, kind = request.param
    return hs.load_likelihood(name, kind=kind)


# ---- models


def test_the_kernel_takes_the_declared_parameters(simulator):
    """In their order; those of which every choice has its own stand first, called by their stems."""
    kernel, own = simulator.trial or simulator.accumulator, simulator.per_choice
    assert own == simulator.names[: len(own)]
    arguments = (*simulator.symmetries.per_choice, *simulator.names[len(own) :], "rng")
    assert tuple(inspect.signature(kernel.py_func).parameters) == arguments


def test_trials_end_everywhere_in_the_box(simulator):
    """300 thetas, a third of them corners of the box: after t0, before the bounds meet, and with every choice."""
    theta = random_thetas(simulator, 300, seed=2)
    low, high = np.array(list(simulator.box.values())).T
    theta[:100] = np.where(np.random.default_rng(3).random((100, len(low))) < 0.5, low, high)
    rt, choice = simulator.simulate(theta, seed=1)
    decision = rt - by_name(simulator, theta)[simulator.symmetries.shift]
    assert np.isfinite(rt).all()
    assert (decision > 0).all()
    assert set(choice) == set(range(len(simulator.choices)))
    if simulator.clock.closing is not None:
        closing = simulator.clock.closing({name: torch.tensor(x) for name, x in by_name(simulator, theta).items()})
        assert (decision * closing.numpy() < 1).all()


def test_same_seed_same_bytes_on_any_number_of_threads(simulator):
    """16 500 trials are two blocks, each with a stream of its own."""
    theta = np.tile(random_thetas(simulator, 1, seed=5, margin=0.2), (16_500, 1))
    one, two = (simulator.simulate(theta, 9, n_threads=threads) for threads in (1, 2))
    assert one[0].tobytes() == two[0].tobytes()
    assert one[1].tobytes() == two[1].tobytes()
    assert simulator.simulate(theta[:100], 10)[0].tobytes() != one[0][:100].tobytes()


def test_parameters_outside_the_support_are_refused_by_name_and_row(simulator):
    inside = random_thetas(simulator, 3, seed=6)
    for column, p in enumerate(simulator.parameters):
        for wrong in (np.nan, *(end + step for end, step in zip(p.support, (-1.0, 1.0), strict=True))):
            theta = inside.copy()
            theta[1, column] = wrong
            with pytest.raises(InputError, match=rf"theta\['{p.name}'\] must be finite and inside .* in row 1 "):
                simulator.simulate(theta, seed=1)


def test_data_coded_otherwise_are_refused_and_a_choice_never_made_is_not(simulator):
    data = pd.DataFrame({"rt": [0.5, 0.6, 0.7], "response": [simulator.choices[-1]] * 3})
    assert check_table(data, simulator).choice.tolist() == [len(simulator.choices) - 1] * 3
    data.loc[1, "response"] = 7
    with pytest.raises(InputError, match="got 7 in row 1 "):
        check_table(data, simulator)
    too_many = pd.DataFrame({"rt": 0.5, "response": range(len(simulator.choices) + 1)})
    with pytest.raises(InputError, match=f"got .*{len(simulator.choices)}" if simulator.per_choice else "got 0 in row"):
        check_table(too_many, simulator)


# ---- likelihoods


def some_trials(likelihood, n_thetas, n, seed):
    """n trials of each of n_thetas in the inner 80 % of the box: rt, choice, theta (n_thetas * n rows each)."""
    theta = np.repeat(random_thetas(likelihood.simulator, n_thetas, seed, margin=0.1), n, axis=0)
    rt, choice = likelihood.simulator.simulate(theta, seed)
    return torch.as_tensor(rt), torch.as_tensor(choice), torch.as_tensor(theta)


def test_simulated_trials_follow_the_likelihood(likelihood):
    """20 000 trials of 3 thetas. The KL of a learned one, 5e-5 at most, adds 2 n KL = 2 to a statistic of sd 8."""
    simulator, n = likelihood.simulator, 20_000
    for seed, row in enumerate(random_thetas(simulator, 3, seed=1, margin=0.1)):
        pilot, trials = (simulator.simulate(np.tile(row, (n, 1)), [seed, k]) for k in range(2))
        edges = edges_of(*pilot, len(simulator.choices))

        def cdf(choice, t, row=row):
            codes = np.full(len(t), simulator.choices[choice])
            return likelihood.cdf(t, codes, by_name(simulator, row)).numpy()

        assert chi_square_p(*trials, edges, cdf) > FALSE_ALARM, row.tolist()


@pytest.mark.parametrize("wrong", [0.97, 1.03])
def test_a_threshold_that_is_three_percent_off_is_seen(wrong):
    """The goodness of fit above, with trials of the ddm whose threshold is not what the closed form is told."""
    simulator, exact = load_simulator("ddm"), hs.load_likelihood("ddm", kind="exact")
    row, n = np.array([1.0, 1.0, 0.5, 0.3]), 20_000
    made = np.tile(row * [1.0, wrong, 1.0, 1.0], (n, 1))
    pilot, trials = (simulator.simulate(made, [1, k]) for k in range(2))

    def cdf(choice, t):
        return exact.cdf(t, np.full(len(t), simulator.choices[choice]), by_name(simulator, row)).numpy()

    assert chi_square_p(*trials, edges_of(*pilot, 2), cdf) < FALSE_ALARM


#: twice as much is off by 1e-7 where bounds collapse suddenly.
_STEP = 0.01


def grid_of(simulator, row):
    """Decision times and weights that integrate over all of them: trapezoids of _STEP where both ends vanish.

    In log decision time; in the log odds of t / T where decisions end at T; and in either where a delay ends at T.
    """
    at = by_name(simulator, row)
    delay = float(at.get(simulator.symmetries.delay, 0.0))
    closing_of = simulator.clock.closing
    closing = float(closing_of({n: torch.tensor(x) for n, x in at.items()})) if closing_of else 0.0
    u = np.arange(-60.0, 60.0, _STEP)
    y = np.arange(-40.0, 40.0, _STEP)
    t, weight = [delay + np.exp(y)], [_STEP * np.exp(y)]
    end = 1.0 / closing if closing > 0.0 else delay
    if end > 0.0:
        t, weight = [end * expit(u), *t], [_STEP * end * expit(u) * expit(-u), *weight]
    pieces = slice(0, 1) if closing > 0.0 else slice(None)
    return np.concatenate(t[pieces]), np.concatenate(weight[pieces])


def test_mass_over_choices_and_times_is_one(likelihood):
    """Of the density, at 6 thetas and 6 corners of the box: 1e-9; 1e-7 where a delay averages it over a short time."""
    simulator = likelihood.simulator
    error = 1e-9 if simulator.symmetries.delay is None else 1e-7
    theta = random_thetas(simulator, 12, seed=2)
    low, high = np.array(list(simulator.box.values())).T
    theta[:6] = np.where(np.random.default_rng(3).random((6, len(low))) < 0.5, low, high)
    theta[:, simulator.names.index(simulator.symmetries.shift)] = 0.0
    for row in theta:
        t, weight = grid_of(simulator, row)
        mass = 0.0
        for choice in range(len(simulator.choices)):
            log_p = likelihood.log_prob_rows(
                outcome_rows(torch.tensor(t), torch.full((len(t),), choice)), torch.tensor(row).expand(len(t), -1)
            )
            mass += float(np.exp(log_p.detach().numpy()) @ weight)
        assert mass == pytest.approx(1.0, abs=error), row.tolist()


def test_gradient_agrees_with_differences_and_cells_with_trials(likelihood):
    """Five-point differences of steps of 1e-4 of the box, whose own error goes with the fourth power: 1e-6.

    Trials between the 10 % and the 95 % quantile of their cell: at the onset, higher derivatives have no bound.
    """
    simulator = likelihood.simulator
    rt, choice, theta = some_trials(likelihood, 4, 200, seed=3)
    low, high = (rt.reshape(4, -1).quantile(q, dim=1).repeat_interleave(200) for q in (0.1, 0.95))
    kept = (rt > low) & (rt < high)
    cells, cell = theta[::200], torch.arange(4).repeat_interleave(200)[kept]
    trials = SortedTrials.sort(rt[kept].numpy(), choice[kept].numpy(), cell.numpy(), 4, len(simulator.choices))
    lapse = torch.tensor(0.05, dtype=torch.float64)

    def total(at):
        return likelihood.log_prob_by_cell(trials, at, lapse)

    density = torch.exp(likelihood.log_prob_rows(outcome_rows(rt[kept], choice[kept]), theta[kept]))
    mixed = torch.log(0.95 * density + 0.05 * trials.lapse_density)
    by_trial = torch.zeros(4, dtype=torch.float64).index_add(0, cell, mixed)
    at = cells.clone().requires_grad_()
    value = total(at)
    torch.testing.assert_close(value.detach(), by_trial, rtol=1e-10, atol=1e-10)
    (gradient,) = torch.autograd.grad(value.sum(), at)
    for column, p in enumerate(simulator.parameters):
        if p.from_data:
            continue
        step = torch.zeros_like(cells)
        step[:, column] = 1e-4 * (p.high - p.low)
        weights = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}
        slope = sum(w * total(cells + k * step) for k, w in weights.items()) / float(step[0, column])
        torch.testing.assert_close(
            gradient[:, column], slope, rtol=1e-6, atol=1e-6 * float(gradient[:, column].abs().max()), msg=p.name
        )


def image(simulator, theta, by):
    """Theta (n, p) with each parameter by its own function: name -> new column."""
    at = by_name(simulator, theta.numpy())
    return torch.tensor(np.stack([by(name, x, at) for name, x in at.items()], 1))


def of_learned(simulator, name):
    """What the symmetries call a parameter: where one accumulator is learned, that of every choice by its stem."""
    stems = simulator.stems if simulator.accumulator else {}
    return next((stem for stem, members in stems.items() if name in members), name)


def test_declared_symmetries_hold(likelihood):
    """Shift, scale, mirror image, permutation and indifference to a sign: log densities agree to 1e-8."""
    simulator = likelihood.simulator
    symmetries = simulator.symmetries
    rt, choice, theta = some_trials(likelihood, 100, 2, seed=4)
    original = likelihood.log_prob_rows(outcome_rows(rt, choice), theta)
    t0 = theta[:, simulator.names.index(symmetries.shift)]

    def expect(log_p):
        torch.testing.assert_close(log_p, original, rtol=1e-8, atol=1e-8)

    later = image(simulator, theta, lambda name, x, _: x + 0.25 if name == symmetries.shift else x)
    expect(likelihood.log_prob_rows(outcome_rows(rt + 0.25, choice), later))

    if symmetries.scale is not None:
        b = 1.1

        stretch = power_at(symmetries.time_power, by_name(simulator, theta.numpy())) * math.log(b)

        def scaled(name, x, at):
            if name == symmetries.delay:
                return x * np.exp(stretch)
            factor = b ** -power_at(symmetries.scale_powers.get(of_learned(simulator, name), 0.0), at)
            if name in symmetries.tangents:
                return np.arctan(np.tan(x) * factor)
            return x * b if name == symmetries.scale else x * factor

        stretched = t0 + (rt - t0) * torch.as_tensor(np.exp(stretch))
        expect(
            likelihood.log_prob_rows(outcome_rows(stretched, choice), image(simulator, theta, scaled))
            + torch.as_tensor(stretch)
        )

    if symmetries.negated or symmetries.complemented:
        mirrored = image(
            simulator,
            theta,
            lambda name, x, _: -x if name in symmetries.negated else 1 - x if name in symmetries.complemented else x,
        )
        expect(likelihood.log_prob_rows(outcome_rows(rt, 1 - choice), mirrored))

    if simulator.per_choice:
        n, own = len(simulator.choices), len(simulator.per_choice)
        groups = [group.roll(1, 1) for group in theta[:, :own].split(n, 1)]
        permuted = torch.cat([*groups, theta[:, own:]], 1)
        expect(likelihood.log_prob_rows(outcome_rows(rt, (choice + 1) % n), permuted))

    if symmetries.even_given_choice:
        reversed_ = image(simulator, theta, lambda name, x, _: -x if name in symmetries.even_given_choice else x)
        shares = [
            torch.stack([likelihood.cdf_rows(outcome_rows(torch.full_like(rt, torch.inf), choice), at)])
            for at in (theta, reversed_)
        ]
        other = likelihood.log_prob_rows(outcome_rows(rt, choice), reversed_)
        expect(other - torch.log(shares[1][0]) + torch.log(shares[0][0]))


def test_units_of_time_and_reduced_parameters_are_all_there_is():
    """Along every direction in which the reduced parameters stay, and log units move together by r,
    d log p = r [(rt - t0) d log p / d t0 - 1]: to 1e-8 at 20 thetas of every closed form that declares them."""
    declared = [name for name, kind in LIKELIHOODS if kind == "exact" and load_simulator(name).symmetries.reduced]
    assert declared
    for name in declared:
        likelihood = hs.load_likelihood(name, kind="exact")
        simulator = likelihood.simulator
        symmetries, n = simulator.symmetries, len(simulator.choices)

        def parts(row, simulator=simulator, symmetries=symmetries, n=n):
            """Log unit of the first accumulator, what those of the others differ from it, and reduced parameters."""
            own = row[: len(simulator.per_choice)].reshape(-1, n)
            at = [dict(zip(simulator.stems, own[:, c], strict=True)) for c in range(n)]
            unit = torch.stack([torch.log(symmetries.time_unit(each)) for each in at])
            rest = [reduced(each) for each in at for reduced in symmetries.reduced.values()]
            return torch.cat([unit[:1], unit[1:] - unit[0], torch.stack(rest)])

        rt, choice, theta = some_trials(likelihood, 20, 1, seed=9)
        at = theta.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(likelihood.log_prob_rows(outcome_rows(rt, choice), at).sum(), at)
        for time, row, slope in zip(rt, theta, gradient, strict=True):
            change = torch.autograd.functional.jacobian(parts, row)
            _, sizes, directions = torch.linalg.svd(change[1:, :-1])
            stay = directions[int((sizes > 1e-9).sum()) :]
            assert len(stay) == n * (len(simulator.stems) - len(symmetries.reduced)) - n + 1
            expected = (stay @ change[0, :-1]) * ((time - row[-1]) * slope[-1] - 1.0)
            torch.testing.assert_close(stay @ slope[:-1], expected, rtol=1e-8, atol=1e-8, msg=name)


def test_parameters_outside_the_box_are_refused(likelihood):
    theta = by_name(likelihood.simulator, random_thetas(likelihood.simulator, 3, seed=5))
    code = likelihood.simulator.choices[0]
    for p in likelihood.simulator.parameters:
        low, high = likelihood.box[p.name]
        between = [0.5 * sum(p.codes[:2])] if p.codes else []
        expected = "be one of .*, the codes" if p.codes else "lie in .*, the box"
        for wrong in (np.nan, *between, *(x for x in (low - 0.01, high + 0.01) if math.isfinite(x))):
            values = theta[p.name].copy()
            values[2] = wrong
            with pytest.raises(InputError, match=rf"theta\['{p.name}'\] must {expected} .*got .* in row 2 "):
                likelihood.log_prob([5.0] * 3, [code] * 3, {**theta, p.name: values})


@pytest.mark.parametrize(("name", "kind"), [("dmc", "neural"), ("dmc", "numerical"), ("ssp", "neural")])
@pytest.mark.parametrize("law", ["log_prob", "cdf", "survival", "quantile", "choice_probabilities", "sample"])
def test_a_condition_between_its_codes_is_refused_by_every_law(name, kind, law):
    likelihood = hs.load_likelihood(name, kind=kind)
    theta = {p.name: 0.5 if p.codes else sum(p.typical) / 2 for p in likelihood.simulator.parameters}
    call = {
        "survival": lambda: likelihood.survival([0.8], theta),
        "choice_probabilities": lambda: likelihood.choice_probabilities(theta),
        "sample": lambda: likelihood.sample(theta, 3, seed=1),
    }.get(law, lambda: getattr(likelihood, law)([0.8], [1], theta))
    with pytest.raises(InputError, match=r"theta\['congruency'\] must be one of .*; got 0.5 in row"):
        call()


def test_responses_outside_the_coding_are_refused(likelihood):
    theta = by_name(likelihood.simulator, random_thetas(likelihood.simulator, 1, seed=5, margin=0.2)[0])
    known = likelihood.simulator.choices[0]
    for wrong in (9, -2, 0.5, len(likelihood.simulator.choices)):
        with pytest.raises(InputError, match=r"response must be one of .*got .* in row 1 "):
            likelihood.log_prob([5.0, 5.0], [known, wrong], theta)


def test_a_response_never_seen_is_no_trouble(likelihood):
    """The cells' kernel with trials of one choice only, against one trial at a time: 1e-10."""
    simulator = likelihood.simulator
    rt, _, theta = some_trials(likelihood, 2, 30, seed=7)
    made = len(simulator.choices) - 1
    choice = torch.full((60,), made)
    trials = SortedTrials.sort(rt.numpy(), choice.numpy(), np.repeat([0, 1], 30), 2, len(simulator.choices))
    got = likelihood.log_prob_by_cell(trials, theta[::30], torch.tensor(0.0, dtype=torch.float64))
    expected = likelihood.log_prob_rows(outcome_rows(rt, choice), theta).reshape(2, 30).sum(1)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


# ---- far outside the usual range


#: decision times, seconds, and response times as they are.
ABSURD = torch.tensor([5e-324, 1e-300, 1e-100, 1e-16, 1e-8, 1e-3, 0.05, 0.3, 1.0, 10.0, 1e3, 1e6], dtype=torch.float64)


def corners(likelihood, n):
    """n corners of the box, or all of them."""
    ends = [(p.low, p.high) for p in likelihood.simulator.parameters]
    every = np.array(list(itertools.product(*ends)))
    return torch.tensor(np.random.default_rng(7).permutation(every)[:n])


def check_everywhere(likelihood, theta):
    """Densities, gradients and distribution functions at absurd times, at t0 exactly and just after it."""
    n, shift = len(theta), shift_of(likelihood.simulator, theta).unsqueeze(-1)
    just_after = torch.nextafter(shift, torch.full_like(shift, 9.0))
    times = torch.cat([ABSURD.expand(n, -1), shift + ABSURD, shift, just_after], 1).sort(1).values
    row, rt = torch.arange(n).repeat_interleave(times.shape[1]), times.reshape(-1)
    rows = theta[row].clone().requires_grad_(True)
    cdf = []
    for choice in range(len(likelihood.simulator.choices)):
        values = outcome_rows(rt, torch.full_like(rt, choice))
        log_p = likelihood.log_prob_rows(values, rows)
        assert not (log_p.isnan() | (log_p == torch.inf)).any()
        (gradient,) = torch.autograd.grad(log_p[log_p > -torch.inf].sum(), rows)
        assert gradient.isfinite().all()
        cdf.append(likelihood.cdf_rows(values, theta[row]).reshape(times.shape))
    each, survival = torch.stack(cdf), likelihood.log_survival_rows(rt, theta[row]).exp().reshape(times.shape)
    for p in (each, survival):
        assert ((p >= 0) & (p <= 1)).all()
    # Rounding of 1e-12: these are sums over a thousand nodes.
    assert (each.diff(dim=-1) >= -1e-12).all()
    assert (survival.diff(dim=-1) <= 1e-12).all()
    assert (each.sum(0) + survival - 1).abs().max() < 1e-6
    forever = torch.full((n,), torch.inf, dtype=torch.float64)
    total = sum(likelihood.cdf_rows(outcome_rows(forever, torch.full_like(forever, c)), theta) for c in range(len(cdf)))
    assert (total - 1).abs().max() < 1e-6


def test_distribution_functions_at_corners_and_absurd_times(likelihood):
    check_everywhere(likelihood, corners(likelihood, 4))


@pytest.mark.slow
def test_distribution_functions_at_every_corner(likelihood):
    check_everywhere(likelihood, corners(likelihood, 128))


@pytest.mark.parametrize("log_mean", [-1.0, 1.0])
@pytest.mark.parametrize("s", [0.1, 0.01, 1e-3, 1e-4])
def test_a_law_as_narrow_as_a_needle_has_mass_one(log_mean, s):
    """Two equal lognormals."""
    p = hs.load_likelihood("lnr", "exact").choice_probabilities({"m0": log_mean, "m1": log_mean, "s": s, "t0": 0.2})
    assert (p - 0.5).abs().max() < 1e-9


def test_a_law_too_narrow_to_be_found_is_refused():
    with pytest.raises(InputError, match=r"the law of 'lnr' cannot be computed at .*; expected 1\."):
        hs.load_likelihood("lnr", "exact").choice_probabilities({"m0": 0.0, "m1": 0.0, "s": 1e-7, "t0": 0.2})


@pytest.mark.parametrize("z", [1e-2, 1e-3, 1e-6, 1e-9])
def test_a_diffusion_that_starts_at_a_bound(z):
    """P(upper) = (1 - exp(-4 v a z)) / (1 - exp(-4 v a)) for bounds at 0 and 2a (Bogacz et al. 2006)."""
    p = hs.load_likelihood("ddm", "exact").choice_probabilities({"v": 1.0, "a": 1.0, "z": z, "t0": 0.2})[0, 1]
    # The distance to the bound is that of z to 0 here and of 1 - z, which is rounded to 1e-16, to 1 there.
    assert math.isclose(p, math.expm1(-4 * z) / math.expm1(-4.0), rel_tol=1e-9 + 1e-15 / z)


@pytest.mark.parametrize(
    ("model", "theta"),
    [
        ("lba", {"v0": -8.0, "v1": 1.0, "A": 0.5, "B": 0.5, "t0": 0.2}),
        ("lba", {"v0": -8.0, "v1": -8.0, "A": 0.5, "B": 0.5, "t0": 0.2}),
        ("rdm", {"v0": 1e-9, "v1": 1.0, "A": 0.5, "B": 0.5, "t0": 0.2}),
    ],
)
def test_accumulators_that_hardly_rise(model, theta):
    """Against 100 000 trials, 5 standard errors."""
    n = 100_000
    p = hs.load_likelihood(model, "exact").choice_probabilities(theta)[0, 0].item()
    share = (hs.simulate(model, theta, n, seed=1)["response"] == 0).mean()
    assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("function", ["log_prob", "cdf", "survival"])
def test_a_time_that_is_no_number_is_refused(function):
    exact, theta = hs.load_likelihood("ddm", "exact"), {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}
    arguments = ([0.5, math.nan],) if function == "survival" else ([0.5, math.nan], [1, 1])
    with pytest.raises(InputError, match=r"it is nan in row 1 \(0 = first\)"):
        getattr(exact, function)(*arguments, theta)
