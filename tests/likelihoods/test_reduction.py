"""Reduction takes off exactly what the symmetries say, and its coordinates can be undone."""

import dataclasses

import numpy as np
import pytest
import torch

from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.catalogue import load_simulator
from hddm_sbi.likelihoods.mixture import Reduction
from hddm_sbi.likelihoods.mixture.collapse import collapse, log_time_on
from hddm_sbi.simulation import Symmetries

LBA3 = load_simulator("lba3")


def test_an_accumulator_sees_only_itself_in_its_own_unit_of_time():
    reduction = Reduction(LBA3)
    by_name = {"v0": 1.0, "v1": 2.0, "v2": 3.0, "sv": 1.0, "sv2": 2.0, "A": 0.5, "B": 1.5, "B1": 2.0, "t0": 0.3}
    theta = torch.from_numpy(LBA3.theta_matrix(by_name, 1))
    assert reduction.names == ["v", "A"]
    assert reduction.views(theta).tolist() == [[[1.0, 0.25], [2.0, 0.2], [1.5, 0.25]]]
    assert reduction.shift(theta).tolist() == [0.3]
    assert reduction.log_time_scales(theta)[0].tolist() == pytest.approx(np.log([2.0, 2.5, 1.0]), abs=1e-15)
    one = torch.tensor([[3.0, 2.0, 0.5, 1.5, 0.3]], dtype=torch.float64)
    assert reduction.by_choice(reduction.reduce(one)).tolist() == [[[1.5, 0.25]]]
    assert float(reduction.log_time_scale(one)) == 0.0


def test_power_of_the_scale():
    theta = torch.tensor([[1.5, 2.0, 0.3, 0.25]], dtype=torch.float64)
    reduction = Reduction(load_simulator("ddm"))
    assert reduction.reduce(theta).tolist() == [[3.0, 0.3]]
    assert reduction.log_time_scales(theta)[0].tolist() == pytest.approx([np.log(4.0)] * 2)


def test_power_that_is_a_function_of_another_parameter():
    """`levy`: p(t; v, a, alpha) = p(t / a^alpha; v a^(alpha - 1), 1, alpha) / a^alpha."""
    reduction = Reduction(load_simulator("levy"))
    theta = torch.tensor([[3.0, 2.0, 0.4, 0.25, 1.5]], dtype=torch.float64)
    assert reduction.names == ["v", "z", "alpha"]
    assert reduction.reduce(theta)[0].tolist() == pytest.approx([3.0 * 2.0**0.5, 0.4, 1.5], rel=1e-15)
    assert float(reduction.log_time_scale(theta)) == pytest.approx(1.5 * np.log(2.0), rel=1e-15)


def test_choices_that_touch_each_other_see_themselves_first_and_the_others_in_order():
    reduction = Reduction(load_simulator("lca3"))
    theta = torch.tensor([[1.0, 2.0, 3.0, 2.0, 0.5, 0.3, 1.5, 0.25]], dtype=torch.float64)
    views, shared = reduction.views(theta), [0.5, 6.0, 1.0]
    assert views.tolist() == [[[2.0, 6.0, 4.0, *shared], [4.0, 6.0, 2.0, *shared], [6.0, 4.0, 2.0, *shared]]]
    turned = theta[:, [2, 0, 1, 3, 4, 5, 6, 7]]
    assert torch.equal(reduction.views(turned), views[:, [2, 0, 1]])


def test_an_angle_enters_by_its_tangent():
    angle = load_simulator("angle")
    reduction = Reduction(angle)
    theta = torch.tensor([[1.5, 2.0, 0.3, 0.25, 0.6]], dtype=torch.float64)
    values = dict(zip(reduction.names, reduction.reduce(theta)[0].tolist(), strict=True))
    assert values == pytest.approx({"v": 3.0, "z": 0.3, "theta": 2.0 * np.tan(0.6)}, rel=1e-15)


@pytest.mark.parametrize(("name", "outward"), [("lba3", 1.0), ("levy", -1.0)])
def test_heavy_coordinate_is_smooth_increasing_and_undone(name, outward):
    times = Reduction(load_simulator(name)).times
    y = torch.linspace(-30.0, 60.0, 9_001, dtype=torch.float64)
    if outward < 0:
        y = -y.flip(0)
    z, log_stretch = times.coordinate(y)
    assert (z.diff() > 0).all()
    torch.testing.assert_close(torch.exp(log_stretch)[1:-1], (z[2:] - z[:-2]) / 0.02, rtol=1e-5, atol=0)
    torch.testing.assert_close(times.log_time_at(z), y, rtol=1e-12, atol=1e-12)
    bent, straight = (-1, 0) if outward > 0 else (0, -1)
    assert float(z[straight] - y[straight]) == pytest.approx(0.0, abs=1e-12)
    assert float(z[bent]) == pytest.approx(outward * (np.sqrt(1 + 2 * 60.0) - 1), rel=1e-12)


def test_clock_of_collapsing_bounds_is_smooth_increasing_and_undone():
    """C and D of `collapse.py` over shapes and times: D is the slope (1e-6), positive, and time comes back (1e-12)."""
    for power in (0.2, 0.3, 1.0, 2.7, 5.2):
        log_t = torch.linspace(-12.0, 3.0, 3_001, dtype=torch.float64)
        rate, shape = torch.full_like(log_t, 0.7), torch.full_like(log_t, power)
        later, log_stretch = collapse(log_t, rate, shape)
        y = log_t + later
        assert (y.diff() > 0).all()
        torch.testing.assert_close(torch.exp(log_stretch)[1:-1], (y[2:] - y[:-2]) / 0.01, rtol=2e-3, atol=0)
        torch.testing.assert_close(log_time_on(y, rate, shape), log_t, rtol=0, atol=1e-12)


def test_features_are_of_order_one_over_the_box():
    for name in ("ddm", "rdm4", "lba", "lnr", "angle", "weibull", "ddm_sdv"):
        simulator = load_simulator(name)
        low, high = np.array(list(simulator.box.values())).T
        theta = low + (high - low) * np.random.default_rng(1).random((2_000, len(low)))
        features = Reduction(simulator).density_features(Reduction(simulator).views(torch.as_tensor(theta)))
        assert float(features.abs().max()) < 6.0, name


def test_unlike_choices_are_refused():
    with pytest.raises(InputError, match="cannot be reduced"):
        Reduction(
            dataclasses.replace(
                load_simulator("ddm"),
                symmetries=Symmetries(shift="t0"),
            )
        )
