"""A parameter on the cells of the design."""

import numpy as np
import torch

import hddm_sbi as hs
from hddm_sbi.hierarchy.terms.link import onto_box


def test_a_parameter_that_is_the_same_on_many_cells_is_computed_once_for_them():
    data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=90, seed=1)
    data["load"], data["subject"] = np.linspace(-1.0, 1.0, 90), np.arange(90) % 3
    formulas = ["v ~ load + (load|subject)", "a ~ 1 + (1|subject)", "z ~ 1"]
    v, a, z, _ = hs.HierarchicalModel(formulas, data, likelihood="exact").hierarchy.predictors
    assert v._distinct is None
    assert a._distinct[0].n_rows == 3
    assert z._distinct[0].n_rows == 1
    generator = np.random.default_rng(2)
    values = {
        "a_Intercept": torch.from_numpy(generator.normal(size=5)),
        "a_1|subject": torch.from_numpy(generator.normal(size=(5, 3))),
        "z_Intercept": torch.from_numpy(generator.normal(size=5)),
    }
    for predictor, deviations in ((a, [values["a_1|subject"].unsqueeze(-1)]), (z, [])):
        on_every_cell = onto_box(predictor.linear(values, deviations), predictor.link, predictor.low, predictor.high)
        assert torch.equal(predictor.reported_value(values), on_every_cell)
