"""Both ways of evaluating a model are the same function: compiled and eager; and what cannot be compiled."""

import gc
import pickle
import re
import threading
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from numba.core import config, event
from numba.core.dispatcher import Dispatcher
from torch import special
from torch.nn import functional

import hddm_sbi as hs
from hddm_sbi.analysis.experiment import FORMULAS, simulate_experiment
from hddm_sbi.inference.compiler import kernel_entry, machine, operations
from hddm_sbi.inference.compiler.recorder import compile_function
from hddm_sbi.inference.density import flatten
from hddm_sbi.likelihoods import catalogue
from hddm_sbi.likelihoods.mixture import Architecture, MixtureLikelihood, MixtureNetwork, Reduction

TOLERANCE = 1e-9
f64 = torch.float64


def assert_same(one, other):
    """Two evaluations (value, gradient) agree to 1e-9, relative where they are larger than one."""
    for x, y in zip(one, other, strict=True):
        assert np.isfinite(y).all()
        np.testing.assert_allclose(x, y, rtol=TOLERANCE, atol=TOLERANCE)


def points(density, seeds=(1, 2, 3)):
    """Near the start, and further away."""
    yield density.start
    for seed in seeds:
        yield density.start + 0.1 * seed * np.random.default_rng(seed).normal(size=density.size)


# Models that the formula API builds.


def experiment():
    data = simulate_experiment(n_subjects=4, n_trials=12, seed=3).trials
    return data.assign(item=np.tile(["x", "y", "z"], len(data) // 3), load=np.linspace(-1, 2, len(data)).round(1))


def formula_model(name):
    data = experiment()
    if name == "default, learned":
        return hs.HierarchicalModel(FORMULAS, data)
    if name == "correlated and non-centred, estimated lapse":
        formulas = ["v ~ condition + (condition|subject)", "a ~ 1 + (1|subject)"]
        lapse = dist.Beta(1.0, 19.0)
        return hs.HierarchicalModel(formulas, data, likelihood="exact", lapse=lapse, centered=False)
    if name == "correlated and centred, two factors":
        formulas = ["v ~ condition + (condition|subject) + (1|item)", "z = 0.5"]
        return hs.HierarchicalModel(formulas, data, likelihood="exact", lapse=0.0, centered=True)
    if name == "priors of HDDM, gamma groups, every trial its own":
        formulas = ["v ~ load + (load||subject)", "a ~ 1 + (1|subject)", "t0 ~ 1 + (1|subject)"]
        return hs.HierarchicalModel(formulas, data, likelihood="exact", priors="hddm")
    if name == "priors of other families":
        chosen = {
            "v_Intercept": dist.StudentT(3.0, 0.0, 1.0),
            "v_condition": dist.Laplace(0.0, 1.0),
            "a": dist.Uniform(0.3, 3.0),
            "z_Intercept": dist.Cauchy(0.0, 1.0),
            "v_1|subject_sigma": dist.HalfCauchy(1.0),
            "a_1|subject_sigma": dist.InverseGamma(2.0, 0.3),
            "t0_1|subject_sigma": dist.Exponential(3.0),
        }
        return hs.HierarchicalModel(FORMULAS, data, likelihood="exact", priors=chosen)
    simulator = hs.load_simulator(name)
    theta = {p.name: np.mean(p.typical) for p in simulator.parameters if not p.from_data}
    code = np.tile([1, -1], 30)
    given = {p.name: code for p in simulator.parameters if p.from_data}
    data = hs.simulate(name, {**theta, **given}, n_trials=60, seed=1).assign(group=np.repeat(["x", "y"], 30), **given)
    formulas = {simulator.names[0]: "group"}
    return hs.HierarchicalModel(
        formulas, data, name, untrained(simulator) if catalogue.weights_of(name) is None else "neural"
    )


def untrained(simulator):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return MixtureLikelihood(simulator, MixtureNetwork(Reduction(simulator), Architecture()), simulator.box)


FORMULA_MODELS = [
    "default, learned",
    "correlated and non-centred, estimated lapse",
    "correlated and centred, two factors",
    "priors of HDDM, gamma groups, every trial its own",
    "priors of other families",
    "angle",  # decisions that end
    "weibull",  # a clock
    "full_ddm",  # a delay
    "lba3",  # a race
    "ssp",  # a condition that the simulator receives
]


@pytest.mark.parametrize("name", FORMULA_MODELS)
def test_all_paths_of_a_formula_model_agree(name):
    model = formula_model(name)
    start = model.start
    compiled, eager = (flatten(model.hierarchy, start, path) for path in ("compiled", "eager"))
    assert (compiled.path, eager.path) == ("compiled", "eager")
    for x in points(compiled):
        assert_same(compiled(x), eager(x))


# Models written by hand.

X = torch.tensor(np.random.default_rng(0).normal(size=(20, 3)))
Y = torch.tensor(np.random.default_rng(1).normal(size=20))
GROUP = torch.arange(20) % 4


def regression():
    """Horseshoe, a robust residual, and groups with a Student-t population."""
    scale = pyro.sample("scale", dist.HalfCauchy(torch.tensor(0.5, dtype=f64)))
    local = pyro.sample("local", dist.HalfCauchy(torch.ones(3, dtype=f64)).to_event(1))
    slope = pyro.sample("slope", dist.Normal(torch.zeros(3, dtype=f64), 1.0).to_event(1))
    freedom = pyro.sample("freedom", dist.Gamma(torch.tensor(2.0, dtype=f64), 0.1))
    with pyro.plate("group", 4):
        level = pyro.sample("level", dist.StudentT(freedom, 0.0, scale))
    pyro.sample("y", dist.StudentT(4.0, X @ (slope * local * scale) + level[GROUP], 1.0).to_event(1), obs=Y)


def simplex_mixture():
    """A mixture of ordered normals with Dirichlet weights."""
    weight = pyro.sample("weight", dist.Dirichlet(torch.ones(3, dtype=f64)))
    ordered = dist.transforms.OrderedTransform()
    base = dist.Normal(torch.zeros(3, dtype=f64), 1.0).to_event(1)
    place = pyro.sample("place", dist.TransformedDistribution(base, [ordered]))
    each = torch.log(weight) + dist.Normal(place, torch.tensor(0.5, dtype=f64)).log_prob(Y.unsqueeze(-1))
    pyro.factor("y", torch.logsumexp(each, -1).sum())


def correlated_normal():
    """A correlation matrix of three, and a multivariate normal."""
    factor = pyro.sample("factor", dist.LKJCholesky(3, torch.tensor(2.0, dtype=f64)))
    sd = pyro.sample("sd", dist.LogNormal(torch.zeros(3, dtype=f64), 0.5).to_event(1))
    pyro.sample("x", dist.MultivariateNormal(torch.zeros(3, dtype=f64), scale_tril=sd.unsqueeze(-1) * factor), obs=X[0])


def small_network():
    slope = pyro.sample("slope", dist.Weibull(torch.ones(3, dtype=f64), 2.0).to_event(1))
    hidden = torch.tanh(functional.linear(X * slope, X[:5], X[0, 0].expand(5)))
    pyro.factor("y", (functional.softplus(hidden) - functional.silu(hidden).cumsum(0)).mean())


@pytest.mark.parametrize("model", [regression, simplex_mixture, correlated_normal, small_network])
def test_all_paths_of_a_model_written_by_hand_agree(model):
    compiled, eager = (flatten(model, prior_draw(model), path) for path in ("compiled", "eager"))
    assert (compiled.path, eager.path) == ("compiled", "eager")
    for x in points(compiled):
        assert_same(compiled(x), eager(x))


def prior_draw(model):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        nodes = pyro.poutine.trace(model).get_trace().stochastic_nodes
        torch.manual_seed(5)
        trace = pyro.poutine.trace(model).get_trace()
    return {name: trace.nodes[name]["value"] for name in nodes if isinstance(trace.nodes[name]["value"], torch.Tensor)}


# Every operation of the table.


def numbers(x):
    p = torch.sigmoid(x)
    return [
        torch.add(x, p, alpha=2), torch.sub(x, p, alpha=3), torch.rsub(x, p, alpha=2), x * p / (1 + p), -x, 2 / p,
        x.abs(), x.sign(), torch.maximum(x, p), torch.minimum(x, p), x.clamp(-0.5, 0.5), x.clamp(min=p - 1),
        torch.clamp_min(x, 0.1), torch.clamp_max(x, 0.1), torch.relu(x), p**2, p**0.5, p**x, p**-1.5, 2**x,
        p.sqrt(), p.rsqrt(), p.exp(), p.expm1(), p.log(), p.log1p(), torch.xlogy(p, 1 + p), x.sin(), x.cos(), p.tan(),
        p.asin(), p.acos(), x.atan(), x.sinh(), x.cosh(), x.tanh(), x.asinh(), (1 + p).acosh(), (p - 0.5).atanh(),
        x.erf(), x.erfc(), p.lgamma(), p.digamma().detach(), x.sgn(), functional.softplus(25 * x), functional.silu(x),
        functional.logsigmoid(x), torch.logaddexp(x, p), x.double().float().double(),
    ]  # fmt: skip


def functions(x):
    p = torch.sigmoid(x)
    smooth = [
        p.exp2(), p.log2(), p.log10(), torch.atan2(x, p), p.erfinv(), special.erfcx(x), special.ndtri(p),
        special.log_ndtr(3 * x), torch.i0(x), special.i0e(x), special.i1(x), special.i1e(x),
    ]  # fmt: skip
    steps = [
        (7 * x).remainder(2),
        x.trunc(),
        x.floor(),
        x.ceil(),
        (3 * x).long().double(),
        special.bessel_j0(x),
        special.bessel_j1(x),
    ]
    compound = [
        torch.addcmul(x, p, p, value=2), torch.lerp(x, p, 0.3), special.entr(p), functional.gelu(x),
        functional.elu(x), torch.hypot(x, p), x.std(), x.var(), torch.linalg.vector_norm(x), x.softmax(0),
        functional.mish(x), functional.leaky_relu(x), functional.hardtanh(x), special.xlog1py(p, p),
    ]  # fmt: skip
    return [*smooth, *(step.detach() * x for step in steps), *compound]


def written(x):
    """Operations in place, and what shares storage with what they write into."""
    square = torch.zeros(3, 3, dtype=x.dtype)
    diagonal, row = square.diagonal(), square[1]
    diagonal.copy_(x[:3])
    before = row * 1.0
    row.add_(x[3:])
    y = x.clone()
    view = y[2:4]
    y.mul_(2.0)
    z = torch.empty_like(x).fill_(2.0).sub_(x)
    ones = torch.ones(6, dtype=x.dtype)
    ones[::2] = x[::2]
    twice, same = x * 3.0, x * 3.0
    twice.exp_()
    added = torch.zeros_like(x).index_add_(0, torch.tensor([0, 0]), x[:2])
    turned, zeroed, filled = x.clone().unsqueeze_(0).t_() * 2.0, x.clone().zero_() + x, torch.empty_like(x).fill_(x[0])
    scattered = torch.diagonal_scatter(square, x[:2], 1)
    parts = [square, diagonal, row, before, y, view, z, ones, twice, same]
    return [*parts, added, turned, zeroed, filled, scattered]


def conditions(x):
    some = [x == x[0], x != x[0], x < 0, x <= 0.1, x > 0, x >= 0.1, torch.isnan(x / 0), torch.isinf(x / 0)]
    joined = [some[2] & some[3], some[2] | some[5], some[2].logical_and(some[3]), some[2].logical_or(some[4])]
    return [torch.where(c, x, 2 * x) for c in [*some, *joined, ~some[2], some[4].logical_not()]] + [
        some[2].double() * x,
        x.masked_fill(some[2], 0.5),
    ]


def views(x):
    m = x.exp().reshape(2, 3) * x.reshape(2, 3)
    cube = torch.stack([m, m.sin()])
    one, two = m.split([1, 2], 1)
    last = x.flip(0).clone()
    last[1:3] = x[:2]
    square = torch.zeros(3, 3, dtype=x.dtype)
    square.diagonal(1).copy_(x[:2])
    return [
        m.t(), m.unsqueeze(1).expand(2, 4, 3), m[1], m[:, 0:3:2], cube[:, 1], cube.permute(2, 0, 1), cube.flip(0, 2),
        cube.transpose(0, 2), cube.diagonal(dim1=1, dim2=2).exp(), *one.chunk(2), two.squeeze(), *m.unbind(1), last,
        square, functional.pad(m, (1, 2, -1, 0)), functional.pad(m, (-1, 1), value=3.0), m.tril(), m.triu(1),
        torch.cat([m, m[:, :1]], 1), torch.cat([x, x.new_empty(0)]), (m + 0.0).view(-1).view(3, 2),
        torch.select_scatter(m, x[:3], 0, 1), torch.slice_scatter(m, m[:, :1], 1, 2, 3), cube.reshape(4, 3) @ m.t(),
    ]  # fmt: skip


def sums(x):
    m, cube = x.reshape(2, 3), (x.exp() * torch.arange(1, 5, dtype=x.dtype).unsqueeze(-1)).reshape(4, 2, 3)
    lower = torch.stack([torch.stack([x[0].exp(), 0 * x[0]]), torch.stack([x[1], x[2].exp()])])
    return [
        x.sum(), m.sum(1), cube.sum((0, 2), keepdim=True), cube.mean(1), x.mean(), m.prod(1), x.prod(), m.amax(1),
        x.max(), x.min(), (m > 0).all(1).double() * x[0], x.flip(0).cumsum(0).flip(0), cube.cumsum(0), cube.cumsum(1),
        m.amin(0), cube.max(2).values, cube.min(1).values, (m > 0).any(1).double() * x[0], m.cumsum(1), m.cumprod(1),
        m.t().log_softmax(1), x[:2].expand(3, 2).softmax(-1),
        x[:3] @ x[3:], m @ x[:3], m @ m.t(), torch.bmm(cube, cube.transpose(1, 2)), torch.log_softmax(m, 1),
        torch.linalg.solve_triangular(lower, m[:, :2], upper=False),
        torch.linalg.solve_triangular(lower.t(), m[:, :2], upper=True),
        torch.linalg.solve_triangular(lower, m[:, :2], upper=False, left=False),
        torch.linalg.solve_triangular(lower, m[:, :2], upper=False, unitriangular=True),
    ]  # fmt: skip


def indexing(x):
    p, m, which = torch.sigmoid(x[:5]), x.exp().reshape(2, 3), torch.tensor([1, 0, 1])
    mask = torch.tensor([True, False, True])
    put = torch.zeros(2, 3, dtype=x.dtype).index_put((which, torch.tensor([0, 2, 0])), x[:3], accumulate=True)
    edges = torch.stack([p.cumsum(0), 2.0 * p.cumsum(0)])
    below = [torch.searchsorted(edges.detach(), m.detach(), right=right) for right in (False, True)]
    return [
        *(x[place].reshape(-1) * edges.sum() for place in below),
        m[which], m[:, which], m[which, which], m[:, mask], put, x.clone().index_put((mask.repeat(2),), x[0]),
        m.index_select(1, which), torch.zeros(2, 3, dtype=x.dtype).index_add(1, which, m, alpha=2),
        m.gather(1, torch.tensor([[2, 0], [1, 1]])), m.scatter(1, torch.tensor([[2], [1]]), 7.0),
        torch.zeros(2, 3, dtype=x.dtype).scatter_add(1, which.expand(2, 3), m),
        m.scatter(1, torch.tensor([[2], [1]]), x[:2].unsqueeze(1)),
    ]  # fmt: skip


OPERATION_TESTS = [numbers, functions, written, conditions, views, sums, indexing]


def weighted(function):
    """Sum of all results with weights of their own, and its gradient."""

    def evaluate(x):
        x = x.detach().requires_grad_(True)
        results = torch.cat([r.reshape(-1) for r in function(x)])
        total = results @ torch.linspace(0.5, 1.5, len(results), dtype=x.dtype)
        return total.detach(), torch.autograd.grad(total, x)[0]

    return evaluate


@pytest.fixture
def x0():
    return torch.tensor([0.3, -0.4, 0.8, -0.2, 0.5, 0.1], dtype=f64)


@pytest.mark.parametrize("function", OPERATION_TESTS)
def test_operations_are_those_of_torch(function, x0):
    compiled = compile_function(weighted(function), x0)
    for x in (x0, x0.flip(0), 0.7 * x0):
        assert_same(compiled(x.numpy()), tuple(y.numpy() for y in weighted(function)(x)))


def test_constants_may_be_columns_of_a_table(x0):
    """Numbers that do not lie side by side, as of `values[:, :1]` in a likelihood of one's own."""
    table = torch.arange(12, dtype=f64).reshape(6, 2)

    def function(x):
        return [x.unsqueeze(-1) * table[:, :1] + table[:, 1:]]

    compiled = compile_function(weighted(function), x0)
    assert_same(compiled(x0.numpy()), tuple(y.numpy() for y in weighted(function)(x0)))


def test_every_operation_of_the_table_is_tested(x0, monkeypatch):
    used = set()
    for name, rule in operations.OPERATIONS.items():
        monkeypatch.setitem(operations.OPERATIONS, name, noted(used, name, rule))
    for function in OPERATION_TESTS:
        compile_function(weighted(function), x0)
    assert used == set(operations.OPERATIONS)


def noted(used, name, rule):
    def run(*given, **named):
        used.add(name)
        return rule(*given, **named)

    return run


def test_what_changes_nothing_is_no_instruction(x0):
    def with_idle(x):
        one = (x * 1.0 + 0.0 - 0.0) / 1.0
        return [torch.where(x > 0, 1.0, 0.0) * x.reshape(6, 1).sum(1), one**1.0]

    def without(x):
        return [(x > 0) * x, x]

    lengths = [len(compile_function(weighted(f), x0).program) for f in (with_idle, without)]
    assert lengths[0] == lengths[1]


def test_gradients_of_views_are_added_where_they_belong(x0):
    """In one copy of the whole, however many views there are."""

    def columns(x):
        m = (x.exp() * torch.arange(1, 9, dtype=x.dtype).unsqueeze(-1)).exp()
        return [m[:, 0] * m[:, 1], m[:, 2].sin() + m[:, 2], m[2:5].sum(0), m.t()[3] ** 2, m[0, 0] * m]

    program = compile_function(weighted(columns), x0)
    for _ in range(2):  # the second time in memory that was used
        assert_same(program(x0.numpy()), tuple(y.numpy() for y in weighted(columns)(x0)))
    rows = program.program.reshape(-1, machine.WIDTH)
    whole = rows[:, machine.LENGTHS : machine.STEPS].prod(1) == 48
    assert (whole & (rows[:, 0] == machine.COPY)).sum() <= 2


def test_no_two_kernels_are_entered_by_one_name():
    """Processes that fill one cache count their functions alike, so the count does not tell them apart."""
    for name in ("default, learned", "correlated and centred, two factors"):
        assert formula_model(name).density.path == "compiled"
    names = [
        re.sub(r"v\d+", "", compiled.fndesc.llvm_cfunc_wrapper_name)
        for entry in kernel_entry._ENTRIES.values()
        for compiled in entry.overloads.values()
    ]
    assert len(names) > 1
    assert len(set(names)) == len(names)


def test_the_comparison_sees_a_wrong_operation(x0, monkeypatch):
    monkeypatch.setitem(operations.OPERATIONS, "erf", operations.OPERATIONS["erfc"])
    wrong = compile_function(weighted(numbers), x0)
    with pytest.raises(AssertionError):
        assert_same(wrong(x0.numpy()), tuple(y.numpy() for y in weighted(numbers)(x0)))


# What cannot be compiled.


def airy():
    a = pyro.sample("a", dist.Normal(torch.tensor(0.0, dtype=f64), 1.0))
    pyro.factor("f", torch.special.airy_ai(a.detach()) * a)


def branching():
    a = pyro.sample("a", dist.Normal(torch.tensor(0.0, dtype=f64), 1.0))
    pyro.factor("f", a if float(a.detach()) > 0 else -a)


def through_numpy():
    a = pyro.sample("a", dist.Normal(torch.tensor(0.0, dtype=f64), 1.0))
    pyro.factor("f", a * float(np.sin(a.detach().numpy())))


def masked():
    a = pyro.sample("a", dist.Normal(torch.zeros(3, dtype=f64), 1.0).to_event(1))
    pyro.factor("f", a[a > 0].sum())


@pytest.mark.parametrize(
    ("model", "reason"),
    [(airy, "special_airy_ai"), (branching, "_local_scalar_dense"), (through_numpy, "does not see"), (masked, "mask")],
)
def test_what_cannot_be_compiled_runs_in_pyro_and_says_why(model, reason):
    start = {"a": torch.full((3,) if model is masked else (), 0.3, dtype=f64)}
    with pytest.warns(UserWarning, match=reason) as caught:
        density = flatten(model, start)
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert density.path == "eager"
    assert hs.sample(density, draws=3, tune=3, chains=3).x.shape[:2] == (3, 3)


# The compiled function as a thing.


def test_threads_get_the_same_bits():
    density = flatten(regression, prior_draw(regression))
    x = list(points(density, range(1, 9)))
    expected = [density(at)[1].tobytes() for at in x]
    found = {}

    def run(k):
        found[k] = [density(at)[1].tobytes() for _ in range(50) for at in x]

    threads = [threading.Thread(target=run, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[k] == expected * 50 for k in range(3))


def test_a_second_formula_compiles_nothing():
    compiled = []

    class Compilations(event.Listener):
        def on_start(self, e):
            compiled.append(e.data["dispatcher"].py_func.__qualname__)

        def on_end(self, e):
            pass

    flatten(regression, prior_draw(regression))
    listener = Compilations()
    event.register("numba:compile", listener)
    try:
        flatten(correlated_normal, prior_draw(correlated_normal))
    finally:
        event.unregister("numba:compile", listener)
    assert not compiled


def test_machine_code_lives_as_long_as_its_address(monkeypatch):
    """Programs know addresses; Numba frees the code of a function that nobody holds."""
    monkeypatch.setattr(kernel_entry, "_ENTRIES", {})
    data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=20, seed=1)
    before = len(entries_alive())
    density = hs.HierarchicalModel("v ~ 1", data, likelihood="exact").density
    gc.collect()
    assert len(entries_alive()) == before + 1
    assert density.path == "compiled"


def test_addresses_do_not_travel_to_other_processes():
    """The density of a model that is sent away is compiled anew there; by itself it is refused."""
    density = flatten(regression, prior_draw(regression))
    with pytest.raises(TypeError, match="belongs to its process"):
        pickle.dumps(density.evaluate)


def entries_alive():
    """Functions that call kernels, as far as anything holds them."""
    functions = [thing for thing in gc.get_objects() if issubclass(type(thing), Dispatcher)]
    return [function for function in functions if function.py_func.__name__.startswith("enter_")]


def test_it_compiles_where_nothing_can_be_written(tmp_path, monkeypatch):
    nowhere = tmp_path / "a file, not a folder"
    nowhere.write_text("")
    monkeypatch.setattr(config, "CACHE_DIR", str(nowhere))
    assert flatten(small_network, prior_draw(small_network)).path == "compiled"


def test_compiling_changes_no_global_state():
    def state():
        return (
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),
            dist.Distribution._validate_args if hasattr(dist.Distribution, "_validate_args") else None,
            torch.distributions.Distribution._validate_args,
            list(warnings.filters),
            dict(pyro.get_param_store().named_parameters()),
        )

    before = state()
    flatten(correlated_normal, prior_draw(correlated_normal))
    assert state() == before
