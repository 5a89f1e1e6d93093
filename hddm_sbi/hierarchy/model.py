"""The public model: a table and formulas in, a posterior out."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from pyro.distributions import TorchDistribution
from torch import Tensor

from hddm_sbi.data import Formula, Limit, Limits, Missing, Trials, labels
from hddm_sbi.data import Sequence as TrialSequence
from hddm_sbi.errors import InputError, whole_number
from hddm_sbi.hierarchy.along_trials import AlongTrials
from hddm_sbi.hierarchy.assembly import assemble, grouped
from hddm_sbi.hierarchy.description import Description
from hddm_sbi.hierarchy.fits.fit_folder import FitFolder, fit_folder, known_seed
from hddm_sbi.hierarchy.fits.fitting import Fitting, seconds_left
from hddm_sbi.hierarchy.fits.habits import check_no_others
from hddm_sbi.hierarchy.fits.matching import matched
from hddm_sbi.hierarchy.fits.posterior import PosteriorWriter, opened
from hddm_sbi.hierarchy.fits.record import Sampling
from hddm_sbi.hierarchy.lapses import Lapse, LapseChoices, LapseSeconds, choose_lapses
from hddm_sbi.hierarchy.pilot.centring import Centring, as_sampled, forced_centring
from hddm_sbi.hierarchy.pilot.empirical_bayes import PilotFit, pilot_fit
from hddm_sbi.hierarchy.pilot.pooled import pooled_fit
from hddm_sbi.hierarchy.pilot.start import start_values
from hddm_sbi.hierarchy.pilot.whitening import whitening
from hddm_sbi.hierarchy.priors.choice import PriorChoice, PriorRecord
from hddm_sbi.hierarchy.pyro_model import Hierarchy, LapseLaw
from hddm_sbi.hierarchy.table_design import TableDesign
from hddm_sbi.hierarchy.terms.rows import on_designs
from hddm_sbi.inference import SAMPLERS, FlatDensity, Whitening, flatten
from hddm_sbi.likelihoods import CellTrials, Likelihood, catalogue
from hddm_sbi.simulation import DecisionModel, Simulator
from hddm_sbi.types import Array, Index

#: what `fit` takes, for messages.
_SAMPLING = ("draws", "tune", "chains", "seed", "method", "target_accept")
_FIT_ARGUMENTS = (*_SAMPLING, "ess", "minutes", "folder", "quick", "progress")
#: what is computed when it is first needed, from one table; the last two belong to one process as well.
_COMPUTED = ("pilot", "hierarchy", "start", "density", "whitening")


class HierarchicalModel:
    """A hierarchical model of a table of trials.

    Constructing a model checks its arguments and arranges the table; it fits nothing and trains nothing.

    Parameters
    ----------
    formulas
        "v ~ condition + (1|subject)", a list of such strings, or a dict parameter -> right-hand side or number.
        Parameters that are not mentioned get `~ 1`, or the number at which their model holds them (`Parameter.fixed`);
        `z = 0.5` holds one at a number. "v ~ match + (match|subject)", with the stem of `v0`, `v1`, is one formula for
        all accumulators of a race: beside the columns of the table it has `match`, 1 where the response of an
        accumulator is the right one and 0 elsewhere, and `choice`, which response that is. Group terms that share a
        tag, `v ~ (1|p|subject)` and `a ~ (1|p|subject)`, are correlated across parameters; `(1|gr(subject, by=group))`
        has a standard deviation for every level of `group`. `lapse ~ 1 + (1|subject)` is the share of lapses, on the
        scale of the logit.
    data
        One row per trial, with columns `rt` (seconds) and `response`, or the simulator's own outcomes, and every
        predictor. An rt or a response may be missing (nan): where only one of them is, it was not recorded by chance.
    simulator
        Name of the model, or a Simulator; default: that of the likelihood, or "ddm".
    likelihood
        "neural" (learned, shipped with the package), "exact" (closed form), the path of a trained likelihood, or a
        Likelihood. For a simulator of your own, train one first by `hs.train_likelihood`.
    priors
        None (weakly informative), the name of a set from the literature such as "hddm", or a dict coefficient name ->
        Pyro distribution. `prior_table` shows the names, and the prior of each, on the scale of the parameter's link. A
        parameter's name instead, as in `{"t0": Uniform(0.1, 0.5)}`, gives the prior of its intercept in its own unit,
        as does `hs.natural`. A class sets the prior of all coefficients in it: "Intercept" (intercepts and means of
        conditions), "b" (slopes and differences), "sigma" (standard deviations), or those of one parameter, "v_sigma".
        The more specific entry wins.
    lapse
        Probability that a trial is a lapse, 0 for none, or its prior. Default: "estimated", the prior Beta(1, 49), of
        mean 0.02; 0.05 with `priors="hddm"`; and 0 for outcomes other than rt and response, which know no lapses. Where
        it differs between people or conditions, a formula says it, `lapse ~ 1 + (1|subject)`.
    lapse_seconds
        Lapses are uniform over the responses and over this many seconds, or up to the longest rt if that is longer.
        Default: "range", up to the longest rt, or deadline, of the table that is fitted; 5 with `priors="hddm"`, which
        is HDDM's outlier density of 0.1.
    lapse_mean
        Lapses are exponential in time instead, from 0 on, with this mean in seconds.
    lapse_choices
        Probability of each response among lapses, by its name in the table, {"left": 0.7, "right": 0.3}, or in the
        order of the model's choices. Default: all alike.
    upper
        Which response value is the upper bound, where responses are not coded +1 and -1; "correct", for instance.
    choices
        The same for any number of choices: the responses of the table in the order of the model's choices, for instance
        ["left", "straight", "right"] for `v0`, `v1`, `v2`.
    correct
        Name of the column that has the correct response of each trial, as `response` writes it: responses then become
        "correct" (the upper bound) and "error", in the fit and in what it predicts. `z = 0.5` goes with it, as a bias
        towards the correct response has no meaning.
    stimulus
        Of a race: name of the column that has the right response of each trial, as `response` writes it. It says what
        `match` in formulas is, and is not used without.
    congruent
        Of a conflict task: the label of congruent trials in the column `congruency`, where it does not hold +1
        (congruent: what is to be ignored helps), 0 (neutral) and -1 (incongruent); labels become these. Responses must
        be correct (upper bound) and error.
    neutral
        The label of neutral trials there, if some are; the one label that is left is that of incongruent trials.
    deadline
        Seconds, or the column that has them for every trial. In rows with neither rt nor response nobody had responded
        by then. Leave these rows in the table: the model uses the probability of no response, and without them the fit
        is biased.
    withheld
        In go/no-go tasks, the response that is given by not responding: as `response` writes it, or its code, -1 for
        the lower bound. Its rt is missing. With a deadline, later responses are missing, too.
    censored
        (shortest, longest) time, in seconds or columns, None for no limit: an rt outside, or of -inf or inf, is known
        only to lie there.
    truncated
        (shortest, longest) time outside which trials were removed from the table.
    sequences
        Covariates that are computed along trials, name -> rule, such as
        `{"dq": hs.delta_rule("feedback", "response", by=["subject", "pair"])}`; see `hs.sequence`. The name stands in
        formulas like a column, `v ~ 0 + dq + (0 + dq|subject)`, and the rule's own parameters have formulas, priors and
        group effects as the model's have, `alpha ~ 1 + (1|subject)`.
    centered
        "auto" chooses per group term, centred, partly or not, by how much the trials of each group say; True, False, or
        a dict by term name (`v_1|subject`) forces it. The posterior is the same, the speed is not.
    rt
        Name of the column of response times, for a decision model. Times are in seconds. For a table in milliseconds,
        give `data.assign(rt=data["rt"] / 1000)`.
    response
        Name of the column of responses, for a decision model.

    Raises
    ------
    InputError
        For any argument that cannot be used: what was expected, what came, and what to do.

    Warns
    -----
    TableWarning
        Of response times far above all others, and of congruency that seems the wrong way round.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=100, seed=1)
    >>> hs.HierarchicalModel("v ~ 1", data, likelihood="exact")
    HierarchicalModel(ddm, exact likelihood, 100 trials in 1 cell: v ~ 1, a ~ 1, z ~ 1, t0 ~ 1)

    The parts of a model are computed when they are first asked for:

    >>> model = hs.HierarchicalModel("v ~ 1", data, likelihood="exact")
    >>> model.cell[:3], sorted(model.pilot.coefficients)
    (array([0, 0, 0]), ['a_Intercept', 't0_Intercept', 'v_Intercept', 'z_Intercept'])
    >>> model.density.path, model.density.size == model.whitening.size == len(model.start)
    ('compiled', True)
    """

    def __init__(
        self,
        formulas: str | Sequence[str] | Mapping[str, str | float],
        data: pd.DataFrame,
        simulator: str | Simulator | None = None,
        likelihood: str | Path | Likelihood = "neural",
        priors: PriorChoice = None,
        lapse: Lapse = None,
        *,
        lapse_seconds: LapseSeconds = "default",
        lapse_mean: float | None = None,
        lapse_choices: LapseChoices = None,
        upper: object = None,
        choices: Sequence[object] | None = None,
        correct: str | None = None,
        stimulus: str | None = None,
        congruent: object = None,
        neutral: object = None,
        deadline: Limit | None = None,
        withheld: object = None,
        censored: Limits | None = None,
        truncated: Limits | None = None,
        sequences: Mapping[str, TrialSequence] | None = None,
        centered: Centring = "auto",
        rt: str = "rt",
        response: str = "response",
    ) -> None:
        known, self.likelihood = catalogue.choose(simulator, likelihood)
        coding: dict[str, Any] = {"upper": upper, "choices": choices, "correct": correct}
        coding |= {"congruent": congruent, "neutral": neutral, "rt": rt, "response": response}
        missing = Missing(deadline, withheld, censored, truncated)
        self._table = table = TableDesign.of(formulas, data, known, sequences, stimulus, missing, coding)
        self.priors = priors
        self._lapses = choose_lapses(
            lapse,
            lapse_seconds,
            [outcome.name for outcome in known.outcomes],
            priors,
            str(table.share) if isinstance(table.share, Formula) else table.share,
            lapse_mean,
            lapse_choices,
            table.trials.responses or known.choices,
        )
        self._uncentred = assemble(table, self.likelihood, priors, self._lapses)
        self._forced = forced_centring(centered, self._uncentred)
        self._path = "" if isinstance(likelihood, Likelihood) or likelihood in ("neural", "exact") else str(likelihood)

    @property
    def simulator(self) -> Simulator:
        """The simulator whose outcomes the table holds."""
        return self._table.simulator

    @property
    def formulas(self) -> Mapping[str, Formula | float]:
        """The parsed formula of every parameter, or the number at which it is held."""
        return self._table.formulas

    @property
    def sequences(self) -> Mapping[str, TrialSequence]:
        """The rules of covariates that are computed along trials, by name."""
        return self._table.sequences

    @property
    def trials(self) -> Trials:
        """The checked table."""
        return self._table.trials

    @property
    def lapse(self) -> float | TorchDistribution | None:
        """The probability of a lapse, or its prior; None where a formula says it."""
        return self._uncentred.lapse

    @property
    def lapses(self) -> LapseLaw | None:
        """The law of lapses; None for outcomes that know none."""
        return self._uncentred.trials.lapses

    @property
    def lapse_seconds(self) -> float:
        """The seconds over which lapses are uniform; 0 where they are exponential, or the outcomes know none."""
        return 0.0 if self.lapses is None else self.lapses.seconds

    @property
    def cell(self) -> Index:
        """The cell of each trial, (n_trials,): trials of one cell share every predictor, and so their parameters. With
        sequences, every trial is one."""
        return self._table.cell

    @property
    def grouping_columns(self) -> tuple[str, ...]:
        """Predictors that only tell groups apart; a new table may have new levels of these."""
        return self._table.grouping_columns

    @property
    def design_columns(self) -> tuple[str, ...]:
        """Predictors that tell rows of the design of the population apart, parts of groups, gr(by=), among them."""
        return self._table.columns

    @property
    def conditions(self) -> tuple[str, ...]:
        """Of `design_columns` those that are no numbers: factors, the stimulus of a race, conditions of the model."""
        return self._table.conditions

    @property
    def correct(self) -> Index | None:
        """The position in `simulator.choices` of the correct response of each cell, (n_cells,); None where it is not
        known, because responses are neither correct and error, nor those to a stimulus."""
        return self._table.correct

    @property
    def uncentred(self) -> Hierarchy:
        """The Pyro model with no group term centred that need not be; unlike `hierarchy` it needs no pilot fit."""
        return self._uncentred

    @property
    def reference(self) -> HierarchicalModel | None:
        """The same model with the likelihood that a learned one is judged by, on the same scale of its coefficients.

        The closed form, else the model's equation solved at every theta; None where there is neither.

        Examples
        --------
        >>> import hddm_sbi as hs
        >>> data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=100, seed=1)
        >>> hs.HierarchicalModel("v ~ 1", data).reference
        HierarchicalModel(ddm, exact likelihood, 100 trials in 1 cell: v ~ 1, a ~ 1, z ~ 1, t0 ~ 1)
        """
        known = catalogue.reference(self.simulator) if isinstance(self.simulator, DecisionModel) else None
        return None if known is None else self.with_likelihood(known)

    def with_likelihood(self, likelihood: Likelihood) -> HierarchicalModel:
        """The same model with another likelihood of its simulator, on the same scale of its coefficients.

        Parameters
        ----------
        likelihood
            With the same parameters and outcomes.

        Returns
        -------
        HierarchicalModel
            Its coefficients have the priors of this model; links map onto the box of this model's likelihood.

        Examples
        --------
        >>> import hddm_sbi as hs
        >>> data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=100, seed=1)
        >>> hs.HierarchicalModel("v ~ 1", data).with_likelihood(hs.load_likelihood("ddm", kind="exact"))
        HierarchicalModel(ddm, exact likelihood, 100 trials in 1 cell: v ~ 1, a ~ 1, z ~ 1, t0 ~ 1)
        """
        other = self._bare()
        other.likelihood, other._path = likelihood, ""
        trials = grouped(self._table, likelihood, self.trials.values, None).with_lapses(self.lapses)
        other._uncentred = replace(self._uncentred, likelihood=likelihood, trials=trials)
        return other

    @property
    def prior_table(self) -> pd.DataFrame:
        """The prior of every coefficient, on the scale of its parameter's link.

        Examples
        --------
        >>> import hddm_sbi as hs
        >>> data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=100, seed=1)
        >>> hs.HierarchicalModel("v ~ 1", data, likelihood="exact").prior_table.loc["a_Intercept"].tolist()
        ['log', 'Normal(loc=0, scale=0.6)']
        """
        # A simplex is shares of a change, on whatever scale the change is.
        kinds = self._uncentred.coefficient_kinds()
        of = {p.name: p.link for p in self._uncentred.predictors}
        links = {name: of[kind.parameter] for name, kind in kinds.items() if kind.name != "simplex"}
        rows = {
            name: {"link": links.get(name, "identity"), "prior": str(record)}
            for name, record in self.prior_records.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("coefficient")

    @property
    def prior_records(self) -> dict[str, PriorRecord]:
        """The prior of every coefficient as plain data, in full precision."""
        return {name: PriorRecord.of(prior) for name, prior in self._uncentred.coefficient_priors().items()}

    @property
    def facts(self) -> dict[str, Any]:
        """What the model is, as plain data: all that its posterior depends on but the table; see `FitRecord`."""
        return {
            "model": self.simulator.name,
            "declaration": catalogue.declaration(self.simulator),
            "formulas": {name: f if isinstance(f, float) else f.rhs for name, f in self.formulas.items()},
            "likelihood": self.likelihood.kind,
            "likelihood_path": self._path,
            "weights_sha256": self.likelihood.sha256,
            "prior_set": self.priors if isinstance(self.priors, str) else "",
            "priors": self.prior_records,
            "links": {p.name: p.link for p in self._uncentred.predictors},
            "lapse": self.lapse if self.lapse is None or isinstance(self.lapse, float) else PriorRecord.of(self.lapse),
            "lapse_seconds": self.lapse_seconds,
            "outcome_columns": self.trials.outcomes,
            "columns": tuple(map(str, self.trials.frame.columns)),
            "responses": labels(self.trials.responses),
            "stimulus": self._table.stimulus or "",
            "missing": self._table.missing.facts,
            "sequences": self._uncentred.parameter_map.facts,
            "levels": self.trials.levels,
            "box": {name: (float(low), float(high)) for name, (low, high) in self.likelihood.box.items()},
            **({} if self._lapses.mean is None else {"lapse_mean": self._lapses.mean}),
            **({} if self._lapses.split is None else {"lapse_choices": self._lapses.split}),
        }

    @property
    def fingerprint(self) -> str:
        """Hash of everything that a posterior depends on: the table, the formulas, the priors, the likelihood."""
        facts = {name: fact for name, fact in self.facts.items() if name != "likelihood_path"}
        hashed = hashlib.sha256((repr(self) + json.dumps(facts, default=vars)).encode())
        hashed.update(np.ascontiguousarray(pd.util.hash_pandas_object(self.trials.frame).to_numpy()).tobytes())
        hashed.update(b"" if self._table.seen is None else self._table.seen.tobytes())
        return hashed.hexdigest()

    @cached_property
    def pilot(self) -> PilotFit:
        """A quick empirical-Bayes fit: where groups lie, how far apart, and how well their trials say so."""
        return pilot_fit(self._uncentred, pooled_fit(self._uncentred))

    @cached_property
    def hierarchy(self) -> Hierarchy:
        """The Pyro model as it is sampled, group terms centred where the caller or the pilot fit says so."""
        return as_sampled(self._uncentred, self.pilot, self._forced)

    @property
    def pyro_model(self) -> Hierarchy:
        """The Pyro model: a function without arguments, for any Pyro inference.

        Examples
        --------
        >>> import hddm_sbi as hs
        >>> import pyro
        >>> data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=100, seed=1)
        >>> model = hs.HierarchicalModel(["v ~ 1", "z = 0.5"], data, likelihood="exact")
        >>> trace = pyro.poutine.trace(model.pyro_model).get_trace()
        >>> sorted(name for name in trace.nodes if name.endswith("_Intercept"))
        ['a_Intercept', 't0_Intercept', 'v_Intercept']
        """
        return self.hierarchy

    @cached_property
    def start(self) -> dict[str, Tensor]:
        """Where sampling starts: a value for every sampled site of the Pyro model, from the pilot fit."""
        return start_values(self.hierarchy, self.pilot)

    @cached_property
    def density(self) -> FlatDensity:
        """Flat unconstrained log density of the Pyro model, compiled, and where sampling starts."""
        return flatten(self.hierarchy, self.start)

    @cached_property
    def whitening(self) -> Whitening:
        """The coordinates in which NUTS samples: those in which the effects of a group are nearly independent."""
        return whitening(self.hierarchy, self.pilot, self.start, self.density)

    def with_outcomes(self, values: Array, paid: Mapping[str, Array | None] | None = None) -> HierarchicalModel:
        """The same model of other outcomes in the same design, of a simulated table for instance.

        Parameters
        ----------
        values
            (n, k), a column for each outcome of the simulator; categories by their position. nan or infinite where an
            outcome is not seen, as in `trials.values`.
        paid
            Of every sequence with feedback, what each choice would have brought, (n, n_choices); None where the
            table's feedback stays, whatever the choice.

        Returns
        -------
        HierarchicalModel
            With the same law of lapses, whatever the range of the new outcomes.

        Examples
        --------
        >>> import hddm_sbi as hs
        >>> data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=100, seed=1)
        >>> model = hs.HierarchicalModel("v ~ 1", data, likelihood="exact")
        >>> slower = model.with_outcomes(model.trials.values + [0.1, 0.0])
        >>> bool((slower.trials.rt > model.trials.rt).all())
        True
        """
        table = self.trials.frame.assign(**self.trials.labels(self.simulator, values))
        trials = grouped(self._table, self.likelihood, values, self.lapse_seconds)
        other = self._of_trials(trials.with_lapses(self.lapses))
        along = self._uncentred.parameter_map
        if isinstance(along, AlongTrials):
            for each in along.courses:
                table = table.assign(**each.columns(self.trials.frame, values, (paid or {}).get(each.name)))
            other._uncentred = replace(other._uncentred, parameter_map=along.with_outcomes(values, paid or {}))
        other._table = replace(self._table, trials=replace(self.trials, values=values, frame=table))
        return other

    def seeing(self, rows: Index) -> HierarchicalModel:
        """The same model that sees only some trials: its designs, groups and priors stay those of the whole table.

        So it is this model without the evidence of the other trials, as leaving them out asks for, where a model of a
        smaller table would have other levels, `scale(x)` and priors of slopes. Covariates are still computed along all
        trials.

        Parameters
        ----------
        rows
            (m,) positions in the table, each once, in ascending order.

        Returns
        -------
        HierarchicalModel
            To be sampled and asked for its density. A posterior of it has the whole table, and does not say what was
            seen: do not keep it as a fit.

        Examples
        --------
        >>> import numpy as np
        >>> import hddm_sbi as hs
        >>> data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=100, seed=1)
        >>> model = hs.HierarchicalModel("v ~ 1", data, likelihood="exact")
        >>> len(model.seeing(np.arange(1, 100)).uncentred.trials.order)
        99
        """
        table = replace(self._table, seen=np.asarray(rows, dtype=np.int64))
        trials = grouped(table, self.likelihood, self.trials.values, self.lapse_seconds)
        other = self._of_trials(trials.with_lapses(self.lapses))
        other._table = table
        return other

    def describe(self, draws: int = 400, seed: int = 1) -> Description:
        """What the model assumes: equations, priors, and what they imply for parameters and trials.

        Parameters
        ----------
        draws
            Draws of the prior from which implied quantiles are computed.
        seed
            Same seed, same quantiles.

        Returns
        -------
        Description
            Prints in a terminal and in a notebook. `equations` has every parameter on every design cell, as an equation
            of its coefficients and group effects. `priors` is `prior_table`. `parameters` has quantiles of the
            parameters on their natural scale under the prior, by cell, of the typical group and of a new one;
            `outcomes` those of accuracy, choice probabilities, mean and quantiles of rt of a new group's trials.

        Examples
        --------
        >>> import hddm_sbi as hs
        >>> trials = hs.simulate_experiment(n_subjects=2, n_trials=20).trials
        >>> model = hs.HierarchicalModel(["v ~ condition + (1|subject)", "z = 0.5"], trials, likelihood="exact")
        >>> description = model.describe(draws=50)
        >>> print(description.map)
          v = v_Intercept + v_1|subject    where condition = easy
          v = v_Intercept + v_condition[hard] + v_1|subject    where condition = hard
          a = exp(a_Intercept)
          z = 0.5
          t0 = exp(t0_Intercept)
        >>> description.outcomes.columns.tolist()
        ['condition', 'quantity', 'q5', 'q25', 'q50', 'q75', 'q95']
        """
        return Description(
            title=repr(self),
            priors=self.prior_table,
            hierarchy=self._uncentred,
            trials=self.trials,
            formulas=self.formulas,
            columns=self.design_columns,
            conditions=self.conditions,
            correct=self.correct,
            draws=whole_number("draws", draws),
            seed=whole_number("seed", seed, least=0),
        )

    def on_table(self, data: pd.DataFrame) -> HierarchicalModel:
        """The same model of a new table, which its formulas code as they code its own: for predictions.

        Parameters
        ----------
        data
            Every predictor, and the columns of limits such as `deadline`. Groups may be new; levels of other factors
            must be among those of the table that was fitted. Functions of a column, such as `scale(x)`, are those of
            the fitted table. Outcomes, where it has them, are checked as there, responses by the same names. With
            `sequences` also the columns of `by` and `order`, and those that a rule reads and that do not follow from
            responses.

        Returns
        -------
        HierarchicalModel
            It predicts, and is not to be fitted. Outcomes that the table does not have are nan.

        Raises
        ------
        InputError
            A column is missing, or holds what the fitted table gives no meaning.

        Examples
        --------
        >>> import pandas as pd
        >>> import hddm_sbi as hs
        >>> trials = hs.simulate_experiment(n_subjects=2, n_trials=20).trials
        >>> model = hs.HierarchicalModel("v ~ condition + (1|subject)", trials, likelihood="exact")
        >>> new = model.on_table(pd.DataFrame({"condition": ["hard", "hard"], "subject": ["s01", "Ada"]}))
        >>> new.cell
        array([0, 1])
        """
        other, table = self._bare(), self._table.of_new(data)
        other._table = table
        fixed, along = table.fixed(self.likelihood.box), self._uncentred.parameter_map
        if isinstance(along, AlongTrials):
            along = replace(along, design=table.trials.cells.of_trial, courses=tuple(table.courses))
        on_rows = on_designs(self._uncentred, table.designs(), fixed, table.n_rows)
        other._uncentred = replace(on_rows, parameter_map=along)
        return other

    def with_lapses_of(self, posterior: Any) -> HierarchicalModel:
        """The same model with lapses over the seconds of a fit, whose table may have covered another range.

        Every function that takes a model and a posterior does this, where the model has `lapse_seconds="range"`.

        Parameters
        ----------
        posterior
            What `fit` returned, or what was read from its file.

        Returns
        -------
        HierarchicalModel
            This model, where its lapses are the same already, or their seconds a number.

        Examples
        --------
        >>> import warnings
        >>> import hddm_sbi as hs
        >>> warnings.simplefilter("ignore", hs.ConvergenceWarning)
        >>> data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=100, seed=1)
        >>> law = {"likelihood": "exact", "lapse_seconds": "range"}
        >>> model = hs.HierarchicalModel(["v ~ 1", "z = 0.5"], data, **law)
        >>> posterior = model.fit(draws=20, tune=50, chains=2, seed=1, progress=False)
        >>> held_out = hs.HierarchicalModel(["v ~ 1", "z = 0.5"], data[data["rt"] < 1.0], **law)
        >>> held_out.with_lapses_of(posterior).lapse_seconds == model.lapse_seconds > held_out.lapse_seconds
        True
        """
        seconds = opened(posterior)[0].attrs.get("lapse_seconds", self.lapse_seconds)
        if seconds == self.lapse_seconds or self._lapses.seconds is not None or self._lapses.mean is not None:
            return self
        assert self.lapses is not None
        return self._of_trials(self._uncentred.trials.with_lapses(replace(self.lapses, seconds=seconds)))

    def _of_trials(self, trials: CellTrials) -> HierarchicalModel:
        """The same model of other trials, of which nothing is computed yet."""
        other = self._bare()
        other._uncentred = replace(self._uncentred, trials=trials)
        return other

    def _bare(self) -> HierarchicalModel:
        """A copy of which nothing is computed yet."""
        other = copy(self)
        for name in _COMPUTED:
            other.__dict__.pop(name, None)
        return other

    def fit(
        self,
        draws: int | None = None,
        tune: int = 1000,
        chains: int = 4,
        seed: int | None = None,
        method: str = "nuts",
        *,
        ess: int | None = None,
        minutes: float | None = None,
        folder: str | Path | None = None,
        quick: bool = False,
        target_accept: float | None = None,
        progress: bool = True,
        log_likelihood: bool = False,
        **others: object,
    ) -> Any:
        """Sample the posterior.

        Parameters
        ----------
        draws
            Number of draws per chain that are kept. By default 1000, and while Rhat of any number is above 1.01 more of
            them, up to 3000. With `ess` the most of them, by default 10000.
        tune
            Number of tuning steps per chain before the draws; they are not kept.
        chains
            Number of chains, each in a thread of its own.
        seed
            Same seed, same draws; None for one by chance, which the attributes name.
        method
            A name in `hs.SAMPLERS`: "nuts" (nutpie on the compiled model), "pyro-nuts" (Pyro's own, slow), or a normal
            approximation, which comes with a warning: "laplace" (at the mode, without centring) or "svi" (Pyro's
            AutoNormal guide).
        ess
            Sample on until every population quantity has so many effective draws, in the bulk and in the tails, and
            Rhat of each is at most 1.01. They are looked at after growing numbers of draws, so that the same seed gives
            the same draws.
        minutes
            The most time for the whole call; what there is by then is returned.
        folder
            Keeps the chains as they are sampled, and then the posterior. After a kill, an interrupt or a crash the same
            call goes on from there and ends with the same draws; so does one with more `draws` or a larger `ess`. The
            folder takes about ten times the room of the draws; what is not to go on needs only its posterior.nc.
        quick
            A first look, 2 chains of 200 + 300 steps, which says how far its means may still be off.
        target_accept
            The acceptance that the step size of NUTS is tuned for; by default 0.8, or 0.99 where correlated effects are
            as many as their groups. Nearer to 1 steps are smaller: fewer draws diverge, and each takes longer.
        progress
            Show a progress bar.
        log_likelihood
            Add the pointwise log likelihood (chains x draws x trials numbers).
        others
            None: what other samplers take, such as `adapt_delta`, is refused with what stands for it.

        Returns
        -------
        arviz.InferenceData
            With posterior, sample_stats, observed_data and constant_data; its attributes say what made it. Ctrl-C, or a
            chain that fails, returns the draws so far, with attrs["interrupted"] = 1. `posterior.to_netcdf("fit.nc")`
            writes it, and `hs.load_model("fit.nc")` makes the model again.

        Warns
        -----
        ConvergenceWarning
            About what should not be trusted yet, or is missing of what was asked for.
        FitFileWarning
            Where something could not be written.

        Raises
        ------
        InputError
            For an argument that cannot be used, a folder that holds another fit, or a log density that is not finite
            where sampling starts.

        Examples
        --------
        >>> import warnings
        >>> import hddm_sbi as hs
        >>> data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=100, seed=1)
        >>> model = hs.HierarchicalModel(["v ~ 1", "z = 0.5"], data, likelihood="exact")
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", hs.ConvergenceWarning)  # so few draws are for a look at the shape only
        ...     posterior = model.fit(draws=20, tune=50, chains=2, seed=1, progress=False)
        >>> posterior["posterior"]["v_Intercept"].shape
        (2, 20)

        As many draws as it takes:

        >>> posterior = model.fit(ess=800, minutes=10, tune=300, chains=2, seed=1, progress=False)
        >>> bool(hs.report.summary(model, posterior)["ess_tail"].min() >= 800)
        True
        """
        began = time.perf_counter()
        check_no_others(others, _FIT_ARGUMENTS)
        for name, value in (("progress", progress), ("log_likelihood", log_likelihood)):
            if not isinstance(value, bool | np.bool_):
                raise InputError(f"{name} must be True or False; got {value!r}.")
        if folder is not None and not isinstance(folder, str | Path):
            raise InputError(f"folder must be a path or None; got {folder!r}.")
        seed = known_seed(folder) if seed is None and folder is not None else seed
        settings = Sampling.checked(draws, tune, chains, seed, method, quick, ess, minutes, target_accept)
        with self._kept_in(folder, settings) as kept:
            fitting = self._fitting(settings.method)
            seconds = seconds_left(settings.minutes, time.perf_counter() - began)
            return fitting.run(settings, seconds, kept, progress=bool(progress), log_likelihood=log_likelihood)

    def kept_draws(self, folder: str | Path) -> Any:
        """The draws so far of a fit in a folder that is still running, or was killed.

        Parameters
        ----------
        folder
            As given to `fit`. It is read only; `fit` with the same arguments goes on from there.

        Returns
        -------
        arviz.InferenceData
            As from `fit`, without sample_stats.

        Raises
        ------
        InputError
            The folder holds no chains of this model, or they are still tuning.

        Examples
        --------
        >>> import tempfile
        >>> import hddm_sbi as hs
        >>> data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=100, seed=1)
        >>> model = hs.HierarchicalModel({"v": "1", "a": 1.0, "z": 0.5, "t0": 0.3}, data, likelihood="exact")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     try:
        ...         model.kept_draws(folder)
        ...     except hs.InputError as error:
        ...         print(str(error).partition("holds ")[2])
        no chains of this model; give the folder of model.fit(folder=...).
        """
        return self._fitting("nuts").so_far(Path(folder), self.fingerprint)

    def _fitting(self, method: str) -> Fitting:
        """The model as this method samples it."""
        hierarchy, density = self.hierarchy, self.density
        if not SAMPLERS[method].centring:
            hierarchy = self._uncentred
            density = flatten(hierarchy, start_values(hierarchy, self.pilot))
        facts = {**self.facts, "centred": self._forced}
        return Fitting(hierarchy, self.trials, density, self.whitening, self.pilot.second_modes, facts)

    def _kept_in(self, folder: str | Path | None, settings: Sampling) -> AbstractContextManager[FitFolder | None]:
        """The folder of a fit, locked; None for none."""
        if folder is None:
            return nullcontext()
        chains = {name: getattr(settings, name) for name in ("tune", "chains", "seed", "method", "quick")}
        if settings.target_accept:
            chains["target_accept"] = settings.target_accept
        recipe = {"model": self.fingerprint, "centred": self._forced, **chains}
        return fit_folder(Path(folder), recipe)

    def with_log_likelihood(self, posterior: Any) -> Any:
        """The same posterior with the pointwise log likelihood, lapses included, as group `log_likelihood`.

        A group of that name is replaced.

        Parameters
        ----------
        posterior
            What `fit` returned.

        Returns
        -------
        arviz.InferenceData
            With one number for every chain, draw and trial of this model's table.

        Raises
        ------
        InputError
            The posterior is that of another model.

        Examples
        --------
        >>> import warnings
        >>> import hddm_sbi as hs
        >>> warnings.simplefilter("ignore", hs.ConvergenceWarning)
        >>> data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=100, seed=1)
        >>> model = hs.HierarchicalModel(["v ~ 1", "z = 0.5"], data, likelihood="exact")
        >>> posterior = model.with_log_likelihood(model.fit(draws=20, tune=50, chains=2, seed=1, progress=False))
        >>> posterior["log_likelihood"]["rt_response"].shape
        (2, 20, 100)
        """
        writer = PosteriorWriter(self.with_lapses_of(posterior)._uncentred, self.trials)
        return writer.with_log_likelihood(posterior, self.matched(posterior))

    def matched(self, posterior: Any) -> xr.Dataset:
        """The variables of a posterior that this model has, matched by their labels.

        The posterior may be of more groups than this model's table has, for instance of all subjects where the table is
        of some. Every function that takes a model and a posterior matches them in this way.

        Parameters
        ----------
        posterior
            What `fit` returned, or what was read from its file.

        Returns
        -------
        xarray.Dataset
            Draws of this model's coefficients and group effects, in its own order.

        Raises
        ------
        InputError
            The posterior is of another model, lacks a group of this one, or its table was coded otherwise (another
            reference level, another scale).

        Examples
        --------
        >>> import warnings
        >>> import hddm_sbi as hs
        >>> warnings.simplefilter("ignore", hs.ConvergenceWarning)
        >>> trials = hs.simulate_experiment(n_subjects=4, n_trials=40).trials
        >>> formulas = {"v": "1 + (1|subject)", "a": 1.0, "z": 0.5, "t0": 0.3}
        >>> model = hs.HierarchicalModel(formulas, trials, likelihood="exact")
        >>> posterior = model.fit(draws=20, tune=50, chains=2, seed=1, progress=False)
        >>> some = hs.HierarchicalModel(formulas, trials[trials["subject"] > "s01"], likelihood="exact")
        >>> some.matched(posterior)["subject"].values.tolist()
        ['s02', 's03']
        """
        return matched(posterior, self._uncentred, self.trials, self.formulas)

    def theta(self, posterior: Any, draws: Index | None = None) -> Array:
        """Parameters of every cell for posterior draws.

        Parameters
        ----------
        posterior
            What `fit` returned.
        draws
            Positions in the chains laid end to end; None for all.

        Returns
        -------
        numpy.ndarray
            (n_draws, n_cells, p), parameters in the order of `simulator.names`, on their own scale; `theta[:, cell]`
            has one row per trial.

        Examples
        --------
        >>> import warnings
        >>> import hddm_sbi as hs
        >>> warnings.simplefilter("ignore", hs.ConvergenceWarning)
        >>> data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=100, seed=1)
        >>> model = hs.HierarchicalModel(["v ~ 1", "z = 0.5"], data, likelihood="exact")
        >>> model.theta(model.fit(draws=20, tune=50, chains=2, seed=1, progress=False))[:, 0, 2].max()
        np.float64(0.5)
        """
        return PosteriorWriter(self._uncentred, self.trials).theta(self.matched(posterior), draws)

    def on_cells(self, posterior: Any, draws: Index | None = None) -> Array:
        """Numbers on the cells of the design from which theta follows, for posterior draws.

        Parameters
        ----------
        posterior
            What `fit` returned.
        draws
            Positions in the chains laid end to end; None for all.

        Returns
        -------
        numpy.ndarray
            (n_draws, n_cells, q): `theta` itself, but for models with sequences.

        Examples
        --------
        >>> import warnings
        >>> import hddm_sbi as hs
        >>> warnings.simplefilter("ignore", hs.ConvergenceWarning)
        >>> data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=100, seed=1)
        >>> model = hs.HierarchicalModel(["v ~ 1", "z = 0.5"], data, likelihood="exact")
        >>> posterior = model.fit(draws=20, tune=50, chains=2, seed=1, progress=False)
        >>> bool((model.on_cells(posterior) == model.theta(posterior)).all())
        True
        """
        return PosteriorWriter(self._uncentred, self.trials).on_cells(self.matched(posterior), draws)

    def lapse_share(self, posterior: Any, draws: Index | None = None) -> Array:
        """Probability of a lapse in every cell for posterior draws.

        Parameters
        ----------
        posterior
            What `fit` returned.
        draws
            Positions in the chains laid end to end; None for all.

        Returns
        -------
        numpy.ndarray
            (n_draws, n_cells); `lapse_share(posterior)[:, model.cell]` has one row per trial.

        Examples
        --------
        >>> import warnings
        >>> import hddm_sbi as hs
        >>> warnings.simplefilter("ignore", hs.ConvergenceWarning)
        >>> trials = hs.simulate_experiment(n_subjects=4, n_trials=40).trials
        >>> formulas = ["lapse ~ 1 + (1|subject)", "z = 0.5"]
        >>> model = hs.HierarchicalModel(formulas, trials, likelihood="exact")
        >>> model.lapse_share(model.fit(draws=20, tune=50, chains=2, seed=1, progress=False)).shape
        (40, 4)
        """
        return PosteriorWriter(self._uncentred, self.trials).lapse(self.matched(posterior), draws)

    def __getstate__(self) -> dict[str, Any]:
        """Without the compiled density, which belongs to its process."""
        return {name: value for name, value in self.__dict__.items() if name not in ("density", "whitening")}

    def __repr__(self) -> str:
        formulas = ", ".join(f"{name} = {f:g}" if isinstance(f, float) else str(f) for name, f in self.formulas.items())
        n_cells = len(self.trials.cells)
        return (
            f"HierarchicalModel({self.simulator.name}, {self.likelihood.kind} likelihood, "
            f"{len(self.trials)} trials in {n_cells} cell{'s' if n_cells != 1 else ''}: {formulas})"
        )
