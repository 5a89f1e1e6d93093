"""Random tables, formulas, arguments and files: a model, a likelihood or an InputError, never anything else."""

import shutil
import warnings

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import mutated

import hddm_sbi as hs
from hddm_sbi.data.files import read_table
from hddm_sbi.hierarchy import read_fit
from hddm_sbi.inference import inference_data
from hddm_sbi.likelihoods import checkpoint
from hddm_sbi.likelihoods.catalogue import PRETRAINED

#: examples of each property in the default suite, and in `make validate`.
FEW, MANY = 300, 10_000
MANY_FILES = 2_000
ROWS = 24

cells = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.decimals(), st.fractions()),
    *(st.text(max_size=3), st.binary(max_size=3), st.datetimes(), st.timedeltas(), st.tuples(st.integers())),
    *(st.lists(st.integers(), max_size=2), st.sampled_from([{}, object(), np.float16(1.5)])),
)
dtypes = st.sampled_from(
    ["float16", "float32", "float64", "longdouble", "int8", "uint64", "Int64", "Float32", "bool", "boolean"]
).flatmap(lambda name: st.sampled_from([name, "complex64", "category", "string", "object", "Sparse[float]"]))
usual = {
    "rt": st.floats(0.31, 5.0),
    "response": st.sampled_from([1, -1]),
    "x": st.floats(-3, 3),
    "side": st.sampled_from(["l", "r"]),
    "s": st.integers(1, 4),
}


def column(values):
    return st.lists(values, min_size=ROWS, max_size=ROWS)


@st.composite
def tables(draw):
    """A usual table of which some columns are of another dtype, of another kind, or hold something strange."""
    table = pd.DataFrame({name: draw(column(values)) for name, values in usual.items()})
    for name in draw(st.sets(st.sampled_from(list(usual)), max_size=2)):
        how = draw(st.sampled_from(["dtype", "cells", "one cell", "drop"]))
        try:
            if how == "dtype":
                table[name] = table[name].astype(draw(dtypes))
            elif how == "cells":
                table[name] = pd.Series(draw(column(cells)), dtype=object)
            elif how == "one cell":
                table[name] = pd.Series([draw(cells), *table[name][1:]], dtype=object)
            else:
                table = table.drop(columns=name)
        except (TypeError, ValueError, OverflowError, ArithmeticError):
            continue
    return table


names = st.sampled_from(["x", "side", "s", "rt", "nothing", "1", "0", "-1", "2.5", "'l'", "`x y`", "Intercept"])
shapes = "I({}); C({}); scale({}); poly({}, 2); bs({}, df=4); log({}); np.exp({}); np.load({}); os({}); T({}, 'l')"
odd = "S({}); offset({}); ({}|s); ({} || s); (1|{}); ({})**2; -{}; I({}**40); np.f2py.os.system({}); {}["
calls = st.sampled_from(f"{shapes}; {odd}".split("; "))
terms = st.recursive(
    names,
    lambda inner: st.one_of(
        st.tuples(calls, inner).map(lambda pair: pair[0].format(pair[1])),
        st.tuples(inner, st.sampled_from(["+", "-", "*", ":", "/", "|", "**", "~", "%in%", " "]), inner).map(" ".join),
    ),
    max_leaves=5,
)
formulas = st.one_of(
    terms.map("v ~ {}".format),
    st.lists(st.tuples(st.sampled_from(["v", "a", "z", "t0", "lapse", "w"]), terms).map(" ~ ".join), max_size=3),
    st.dictionaries(st.sampled_from(["v", "z", "t0"]), st.one_of(terms, st.floats(), st.none()), max_size=2),
    st.text(max_size=12),
    cells,
)
laws = (dist.Normal(0.0, 1.0), dist.Uniform(0.0, 1.0), dist.HalfNormal(1.0), dist.Gamma(2.0, 2.0), dist.Beta(2.0, 2.0))
priors = st.one_of(
    st.sampled_from([None, "hddm", "nothing", 5]),
    st.dictionaries(
        st.sampled_from(["v_Intercept", "t0", "t0_Intercept", "z", "v_x", "lapse", "v_1|s_sigma", "nothing", 3]),
        st.sampled_from([*laws, dist.Poisson(2.0), dist.LogNormal(0.0, 1.0), "Normal", None]),
        max_size=2,
    ),
)
arguments = st.fixed_dictionaries(
    {},
    optional={
        "simulator": st.one_of(st.sampled_from(["ddm", "lba", "DDM"]), cells),
        "likelihood": st.one_of(st.just("exact"), cells),
        "priors": st.one_of(priors, cells),
        "lapse": st.one_of(st.sampled_from([0, 0.05, dist.Beta(1.0, 19.0)]), cells),
        "lapse_seconds": st.one_of(st.floats(), cells),
        "lapse_mean": st.one_of(st.floats(), cells),
        "lapse_choices": st.one_of(
            st.lists(st.floats(), max_size=3), st.dictionaries(st.sampled_from([1, -1, "l"]), st.floats()), cells
        ),
        "upper": st.one_of(st.sampled_from([1, "l"]), cells),
        "choices": st.one_of(st.lists(st.one_of(st.sampled_from([1, -1, "l", "r"]), cells), max_size=3), cells),
        "centered": st.one_of(st.booleans(), cells),
        "rt": st.one_of(st.just("rt"), cells),
        "response": st.one_of(st.sampled_from(["response", "side"]), cells),
    },
)


def construct(formulas, table, **arguments):
    """A model, or None where it is refused in a message of bounded length."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return hs.HierarchicalModel(formulas, table, **{"likelihood": "exact", **arguments})
        except hs.InputError as refusal:
            said = str(refusal)
    assert 0 < len(said) < 5_000
    return None


def examples(n):
    return settings(
        max_examples=n, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
    )


def usual_table():
    table = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, ROWS, seed=1)
    rng = np.random.default_rng(1)
    return table.assign(x=rng.normal(size=ROWS), side=np.tile(["l", "r"], ROWS // 2), s=np.repeat(range(4), ROWS // 4))


def tables_make_models_or_refusals(table):
    construct(["v ~ x + side", "a ~ (1|s)"], table)


def formulas_make_models_or_refusals(formula):
    construct(formula, usual_table())


def arguments_make_models_or_refusals(options):
    construct("v ~ x + (1|s)", usual_table(), **options)


@pytest.mark.parametrize(
    ("law", "strategy"),
    [
        (tables_make_models_or_refusals, tables()),
        (formulas_make_models_or_refusals, formulas),
        (arguments_make_models_or_refusals, arguments),
    ],
)
@pytest.mark.parametrize("n", [FEW, pytest.param(MANY // 3, marks=pytest.mark.slow)])
def test_constructions(law, strategy, n):
    examples(n)(given(strategy)(law))()


# ---- files


@pytest.mark.parametrize("n", [FEW, pytest.param(MANY_FILES, marks=pytest.mark.slow)])
def test_mutated_likelihood_files(tmp_path, n):
    """Weights or card, half of them with a card that vouches for what the files now hold."""
    path, rng = tmp_path / "mine.safetensors", np.random.default_rng(1)
    theta = {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}
    expected = float(hs.load_likelihood("ddm").log_prob([0.6], [1], theta))
    refused = longest = 0
    for i in range(n):
        for suffix in (".safetensors", ".json"):
            shutil.copy(PRETRAINED / f"ddm{suffix}", path.with_suffix(suffix))
        victim = path if i % 2 else checkpoint.card_path(path)
        victim.write_bytes(mutated(victim.read_bytes(), i // 2, rng))
        try:
            if i % 8 > 3:
                checkpoint.write_card(path, checkpoint.read_card(path))
            found = float(hs.load_likelihood(path).log_prob([0.6], [1], theta))
        except hs.InputError as refusal:
            refused += 1
            longest = max(longest, len(str(refusal)))
        else:
            # Only a card that was sealed again may say something else.
            assert i % 8 > 3 or found == expected
    assert refused > n // 2
    assert longest < 5_000


@pytest.mark.filterwarnings("ignore::hddm_sbi.hierarchy.fits.diagnostics.ConvergenceWarning")
@pytest.mark.parametrize("n", [60, pytest.param(MANY_FILES, marks=pytest.mark.slow)])
def test_mutated_fits(tmp_path, n):
    """Half of them by one bit, half of those in the first part: refused, warned of, or not a number is another."""
    path, rng = tmp_path / "fit.nc", np.random.default_rng(3)
    model = construct({"v": "1 + (1|s)", "a": "1", "z": 0.5, "t0": 0.3}, usual_table())
    model.fit(draws=10, tune=20, chains=1, seed=1, progress=False).to_netcdf(str(path))
    content, whole, refused, warned = path.read_bytes(), inference_data.read(path), 0, 0
    for i in range(n):
        start = int(rng.integers(len(content))) if i % 4 == 0 else 0
        kind = 0 if i % 2 else i // 2
        path.write_bytes(content[:start] + mutated(content[start:], kind, rng))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", hs.FitFileWarning)
            try:
                posterior, _ = read_fit(path)
            except hs.InputError:
                refused += 1
                continue
        warned += bool(caught)
        assert caught or all(
            inference_data.dataset(posterior, group).equals(inference_data.dataset(whole, group))
            for group in inference_data.groups(whole)
        )
    assert refused > n / 8


@pytest.mark.parametrize("n", [FEW, pytest.param(MANY_FILES, marks=pytest.mark.slow)])
def test_mutated_tables(tmp_path, n):
    rng = np.random.default_rng(2)
    for i in range(n):
        path = tmp_path / f"t{('.csv', '.tsv', '.txt', '.csv.gz', '.parquet', '.feather')[i % 6]}"
        table = usual_table()
        if path.suffix in (".parquet", ".feather"):
            getattr(table, f"to_{path.suffix[1:]}")(path)
        else:
            table.to_csv(path, index=False, sep="\t" if path.suffix in (".tsv", ".txt") else ",")
        path.write_bytes(mutated(path.read_bytes(), i // 6, rng))
        try:
            construct("v ~ 1", read_table(path))
        except hs.InputError:
            continue


def test_the_properties_can_fail():
    """Of a construction that raises something else, and of a card of which a number was changed but not noticed."""
    with pytest.raises(ZeroDivisionError):
        examples(5)(given(st.integers())(lambda x: 1 / 0))()
    content = (PRETRAINED / "ddm.json").read_bytes()
    assert all(mutated(content, kind, np.random.default_rng(1)) != content for kind in range(4))
