"""A table of trials and formulas -> cells and design matrices.

All is imported from here.
"""

from hddm_sbi.data.accumulators import Accumulators, stimulus_column
from hddm_sbi.data.conditions import check_codes, warn_reversed
from hddm_sbi.data.design import (
    By,
    Cells,
    Design,
    GroupTerm,
    Label,
    Term,
    at_one,
    find_cells,
    in_files,
    labels,
    ordered_levels,
)
from hddm_sbi.data.design_matrices import Coding, build_designs
from hddm_sbi.data.files import read_table
from hddm_sbi.data.formula import columns_used, parse_formulas
from hddm_sbi.data.functions import LEVELS, TABLE
from hddm_sbi.data.missing import Limit, Limits, Missing
from hddm_sbi.data.monotonic import MonotonicTerm, monotonic_columns
from hddm_sbi.data.recoding import CONGRUENCY
from hddm_sbi.data.responses import ACCURACY, occurring_in
from hddm_sbi.data.sequences.course import Course, check_names, check_used, course, payoffs
from hddm_sbi.data.sequences.rules import from_record
from hddm_sbi.data.sequences.sequence import Sequence
from hddm_sbi.data.smooths import SmoothTerm
from hddm_sbi.data.syntax import Formula
from hddm_sbi.data.table_cells import DesignCells, check_by, design_cells, records
from hddm_sbi.data.trials import Trials, check_new_table, check_table

__all__ = [
    "ACCURACY",
    "CONGRUENCY",
    "LEVELS",
    "TABLE",
    "Accumulators",
    "By",
    "Cells",
    "Coding",
    "Course",
    "Design",
    "DesignCells",
    "Formula",
    "GroupTerm",
    "Label",
    "Limit",
    "Limits",
    "Missing",
    "MonotonicTerm",
    "Sequence",
    "SmoothTerm",
    "Term",
    "Trials",
    "at_one",
    "build_designs",
    "check_by",
    "check_codes",
    "check_names",
    "check_new_table",
    "check_table",
    "check_used",
    "columns_used",
    "course",
    "design_cells",
    "find_cells",
    "from_record",
    "in_files",
    "labels",
    "monotonic_columns",
    "occurring_in",
    "ordered_levels",
    "parse_formulas",
    "payoffs",
    "read_table",
    "records",
    "stimulus_column",
    "warn_reversed",
]
