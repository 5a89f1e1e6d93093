"""Side by side in one run: our sampler, Pyro's NUTS, sbi's estimators in Pyro, and HSSM. See `__main__`."""
