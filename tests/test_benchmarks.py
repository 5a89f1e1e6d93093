"""Benchmarks are not run by the tests, but they must not rot: what they import is there, what they subclass whole."""

import importlib
import pkgutil

import pytest

import benchmarks

#: run by another Python, one that has HSSM.
ELSEWHERE = {"benchmarks.peers.in_hssm"}
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(benchmarks.__path__, "benchmarks.")
    if module.name not in ELSEWHERE and not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_module_is_imported(name):
    importlib.import_module(name)


def test_hssms_networks_are_likelihoods_of_decisions():
    from benchmarks.published import PublishedLikelihood

    assert not PublishedLikelihood.__abstractmethods__
