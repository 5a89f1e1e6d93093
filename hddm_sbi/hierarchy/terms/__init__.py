"""Linear predictors and their parts: coefficients, effects of groups and their laws, terms that are not columns."""
