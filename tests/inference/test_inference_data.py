"""The posterior object, built from arrays."""

import numpy as np

from hddm_sbi.inference import inference_data


def test_a_group_is_added_to_a_copy():
    x = np.random.default_rng(1).normal(size=(2, 5, 3))
    groups = {"posterior": {"x": x}, "observed_data": {"y": np.arange(4)}}
    idata = inference_data.build(groups, {"k": list("abc")}, {"posterior": {"x": ["k"]}}, {"seed": 1})
    extended = inference_data.add_group(idata, "log_likelihood", {"y": x[..., :2]}, ["trial"])
    assert "log_likelihood" not in idata
    np.testing.assert_array_equal(inference_data.dataset(extended, "log_likelihood")["y"], x[..., :2])
    for name in groups:
        assert inference_data.dataset(extended, name).identical(inference_data.dataset(idata, name))
    again = inference_data.add_group(extended, "log_likelihood", {"y": x}, ["trial"])
    assert inference_data.dataset(again, "log_likelihood")["y"].shape == x.shape
    assert inference_data.dataset(extended, "log_likelihood")["y"].shape == (2, 5, 2)
