"""Covariates that are computed along trials in their order: learning, practice, fatigue, habits.

`sequence` says what one is; `rules` has those that come with the package; `written` reads one of the command line;
`course` puts one on a table.
"""
