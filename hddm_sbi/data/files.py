"""A table of trials from a file, by its suffix."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from hddm_sbi.errors import InputError


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a table by its suffix: .csv, .tsv or .txt, also with .gz behind it, .parquet or .feather.

    A .txt has tabs, commas, semicolons or blanks between its columns, whichever its first line has. Raises InputError
    where the file cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"there is no file {str(path)!r}; check the path.")
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; give a file of trials.")
    suffix = path.with_suffix("").suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    reader = _READERS.get(suffix)
    if reader is None or (path.suffix.lower() == ".gz" and suffix not in _SEPARATORS):
        raise InputError(f"{path.name!r} has an unknown suffix; expected one of {', '.join(_READERS)}.")
    if path.stat().st_size == 0:
        raise InputError(f"{path.name!r} is empty; expected a table with one row per trial.")
    try:
        return reader(path)
    except InputError:
        raise
    except ImportError:
        raise InputError(
            f"reading {path.name!r} needs pyarrow: pip install pyarrow, or save the table as .csv."
        ) from None
    except Exception as error:
        problem = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{path.name!r} cannot be read as {suffix[1:]} ({problem}); save it again, or as .csv in UTF-8."
        ) from None


def _read_text(path: Path, separators: str) -> pd.DataFrame:
    """A table of text whose columns are separated by the first of these marks that its first line has."""
    # pandas renames a repeated column to `rt.1` without a word, so the header is read first.
    with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="") as file:
        lines = file.readlines(1)
    found = (mark for mark in separators if lines and mark in lines[0])
    separator = next(found, separators[0])
    header = next(csv.reader(lines, delimiter=separator, skipinitialspace=separator == " "), [])
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(
            f"{path.name!r}: column names must be unique; {', '.join(map(repr, twice))} occurs more than once."
        )
    other = next((mark for mark in ";\t," if len(header) == 1 and mark != separator and mark in header[0]), None)
    if other is not None:
        raise InputError(
            f"{path.name!r} has one column, {header[0]!r}: it is separated by {other!r}, expected {separator!r}; "
            "save it as comma-separated .csv or tab-separated .tsv."
        )
    return pd.read_csv(path, sep=r"\s+" if separator == " " else separator, encoding="utf-8-sig")


#: suffix of a text -> what may separate its columns.
_SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t,; "}
_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    **{end: partial(_read_text, separators=marks) for end, marks in _SEPARATORS.items()},
    ".parquet": pd.read_parquet,
    ".feather": pd.read_feather,
}
