"""Sampling until it is enough, within a time, and on from where a process ended: the same bytes."""

import ctypes
import dataclasses
import threading
import time

import numpy as np
import pytest
from test_sampling import schools

import hddm_sbi as hs
from hddm_sbi.inference.chain_files import ChainFiles


def counted(density):
    """The same density, and a list that grows with every evaluation."""
    calls = []

    def evaluate(x):
        calls.append(1)
        return density(x)

    return dataclasses.replace(density, evaluate=evaluate), calls


def sample(density, **options):
    return hs.sample(density, **{"draws": 400, "tune": 100, "chains": 2, "seed": 3, **options})


@pytest.fixture(scope="module")
def whole():
    """An uninterrupted run, and how many evaluations it takes."""
    density, calls = counted(schools())
    return sample(density), len(calls)


def same(one, two):
    return one.x.tobytes() == two.x.tobytes() and all(np.array_equal(one.stats[k], two.stats[k]) for k in one.stats)


def test_the_first_draws_that_suffice_are_those_of_a_longer_run(whole):
    """Asked at 100, 150, 200, 250: what is enough ends the run there, with the draws and statistics of any other."""
    asked = []

    def enough(x):
        asked.append(x.shape)
        return x.shape[1] >= 250

    run = sample(schools(), draws=100_000, enough=enough)
    assert asked == [(2, n, 10) for n in (100, 150, 200, 250)]
    assert run.stopped == ""
    assert run.x.tobytes() == np.ascontiguousarray(whole[0].x[:, :250]).tobytes()
    assert all(np.array_equal(run.stats[name], whole[0].stats[name][:, :250]) for name in run.stats)


def test_what_is_never_enough_ends_with_the_most(whole):
    assert same(sample(schools(), enough=lambda x: False), whole[0])


def test_the_first_look_is_where_the_caller_says(whole):
    asked = []
    run = sample(schools(), draws=399, first_look=200, enough=lambda x: asked.append(x.shape[1]))
    assert (asked, run.x.shape[1]) == ([200, 300], 399)
    assert run.x.tobytes() == np.ascontiguousarray(whole[0].x[:, :399]).tobytes()


def in_the_chains(density, act):
    """The same density, which tells `act` at every evaluation which chain it is of, and how often it was asked.

    Chains are numbered as they come, from 0; starting points are evaluated in threads that come before those.
    """
    calls: dict[int, int] = {}

    def evaluate(x):
        thread = threading.get_ident()
        calls[thread] = calls.get(thread, 0) + 1
        if thread != threading.main_thread().ident:
            act([*(t for t in calls if t != threading.main_thread().ident)].index(thread), calls[thread])
        return density(x)

    return dataclasses.replace(density, evaluate=evaluate), calls


def once_both_have_draws(act):
    """For `in_the_chains`: chain 0 acts when chain 1 has draws, too. Of one that still tunes there are none to keep."""
    other_draws = threading.Event()

    def when(chain, n):
        if chain == 1 and n == 1_800:
            other_draws.set()
        if chain == 0 and n == 1_820:
            other_draws.wait(30.0)
            act()

    return when


def test_chains_wait_while_they_are_looked_at(whole):
    """Those that are at the first look take no core from the others, nor from the one who looks."""
    density, calls = in_the_chains(schools(), lambda chain, n: None)
    seen = []

    def enough(x):
        seen.append(sum(calls.values()))
        time.sleep(0.3)
        seen.append(sum(calls.values()))
        return x.shape[1] == 150

    run = sample(density, draws=100_000, enough=enough)
    assert len(seen) == 4
    assert seen[0] == seen[1] < seen[2] == seen[3]
    assert run.x.tobytes() == np.ascontiguousarray(whole[0].x[:, :150]).tobytes()
    # a draw that each is ahead, and what they do until they hear that they are to end
    assert sum(calls.values()) < seen[3] + 0.2 * whole[1]


@pytest.mark.parametrize("at", ["the look", "the gate"])
def test_an_interrupt_while_chains_wait_keeps_their_draws(whole, at):
    """Ctrl-C while all wait to be looked at, and while one waits for the other: for its 100th draw, or a later one
    where nutpie tunes in fewer steps."""

    def interrupt():
        if at == "the gate":
            ctypes.pythonapi.PyErr_SetInterrupt()
            time.sleep(0.5)

    def enough(x):
        if at == "the look":
            raise KeyboardInterrupt
        return False

    density, _ = in_the_chains(schools(), once_both_have_draws(interrupt))
    run = sample(density, draws=100_000, enough=enough)
    n = run.x.shape[1]
    assert run.stopped == "interrupted"
    assert n >= 100 if at == "the look" else 1 < n < whole[0].x.shape[1]
    assert run.x.tobytes() == np.ascontiguousarray(whole[0].x[:, :n]).tobytes()


def test_a_chain_that_fails_ends_those_that_wait_for_it(whole):
    def fail():
        raise ArithmeticError("no such place")

    density, _ = in_the_chains(schools(), once_both_have_draws(fail))
    run = sample(density, draws=100_000, enough=lambda x: False)
    n = run.x.shape[1]
    assert run.stopped == "a chain failed (ArithmeticError: no such place)"
    assert 1 < n < 100
    assert run.x.tobytes() == np.ascontiguousarray(whole[0].x[:, :n]).tobytes()


def test_time_is_over_while_chains_wait(whole):
    """One chain is slower than the budget; what is there of it by then is returned of all."""

    def act(chain, n):
        if chain == 0 and n > 1_760:
            time.sleep(0.02)

    density, _ = in_the_chains(schools(), act)
    run = sample(density, draws=100_000, enough=lambda x: False, seconds=2.0)
    n = run.x.shape[1]
    assert run.stopped == "out of time"
    assert 1 < n < 100
    assert run.x.tobytes() == np.ascontiguousarray(whole[0].x[:, :n]).tobytes()


def test_an_error_in_the_look_ends_the_chains():
    density, calls = in_the_chains(schools(), lambda chain, n: None)
    with pytest.raises(ArithmeticError, match="no such number"):
        sample(density, enough=lambda x: (_ for _ in ()).throw(ArithmeticError("no such number")))
    before = sum(calls.values())
    time.sleep(0.2)
    assert sum(calls.values()) == before


def thread_states():
    """Python's records of threads, which every chain has one of while it runs."""
    api = ctypes.pythonapi
    for function in (api.PyInterpreterState_Get, api.PyInterpreterState_ThreadHead, api.PyThreadState_Next):
        function.restype = ctypes.c_void_p
    state, n = api.PyInterpreterState_ThreadHead(ctypes.c_void_p(api.PyInterpreterState_Get())), 0
    while state:
        state, n = api.PyThreadState_Next(ctypes.c_void_p(state)), n + 1
    return n


def test_chains_that_are_ended_leave_no_thread_behind():
    """Waits for the threads of Python's own pool, which end a moment after their work."""
    sample(schools(), draws=10)
    before = thread_states()
    for _ in range(5):
        sample(schools(), draws=100_000, enough=lambda x: True)
    deadline = time.monotonic() + 5
    while thread_states() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert thread_states() <= before


def test_a_time_that_is_over_ends_with_the_draws_so_far():
    run = sample(schools(), draws=10_000_000, seconds=2.0)
    assert run.stopped == "out of time"
    assert run.x.shape[1] == run.stats["diverging"].shape[1] > 100
    assert run.x.tobytes() == sample(schools(), draws=run.x.shape[1]).x.tobytes()


@pytest.mark.parametrize("method", ["laplace", "svi", "pyro-nuts"])
def test_a_sampler_with_a_fixed_number_of_draws_refuses_to_go_on_until_enough(method):
    with pytest.raises(hs.InputError, match=f"method='{method}' takes a fixed number of draws"):
        sample(schools(), method=method, seconds=1.0)


def test_a_chain_goes_on_from_its_files_with_the_same_bytes(whole, tmp_path):
    """Cut in the middle of a row, as after a kill: only the evaluations that are missing are made."""
    run, evaluations = whole
    assert same(sample(schools(), folder=tmp_path), run)
    for number in range(2):
        draws = np.fromfile(tmp_path / f"chain-{number}.draws").reshape(500, 10)
        assert draws[100:].tobytes() == run.x[number].tobytes()
        file = tmp_path / f"chain-{number}.evaluations"
        with file.open("r+b") as opened:
            opened.truncate(file.stat().st_size // 2 + 3)
    density, calls = counted(schools())
    assert same(sample(density, folder=tmp_path), run)
    assert len(calls) < 0.55 * evaluations
    density, calls = counted(schools())
    assert same(sample(density, folder=tmp_path), run)
    # those of the starting points, which every run makes
    assert len(calls) <= 10


def test_a_flipped_bit_is_noticed_and_what_follows_computed_anew(whole, tmp_path):
    sample(schools(), folder=tmp_path)
    file = tmp_path / "chain-1.evaluations"
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    density, calls = counted(schools())
    assert same(sample(density, folder=tmp_path), whole[0])
    assert 0.2 * whole[1] < len(calls) < 0.5 * whole[1]


def test_a_full_disk_ends_the_files_and_not_the_chain(whole, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    run = sample(schools(), folder=tmp_path)
    assert same(run, whole[0])
    assert "No space left on device" in run.not_kept


def test_files_of_another_density_change_nothing(tmp_path):
    def square(y):
        return -0.5 * float(y @ y), -y

    files = ChainFiles(tmp_path / "chain", 2, square)
    points = np.random.default_rng(1).normal(size=(5, 2))
    for y in points:
        files.evaluate(y)
    files.close()
    other = ChainFiles(tmp_path / "chain", 2, lambda y: (-float(y @ y), -2 * y))
    assert other.evaluate(points[0])[0] == square(points[0])[0]
    for y in points[1:] + 1.0:
        value, gradient = other.evaluate(y)
        assert (value, gradient.tolist()) == (-float(y @ y), (-2 * y).tolist())
    other.close()
