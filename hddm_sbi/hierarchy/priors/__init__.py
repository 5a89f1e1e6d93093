"""Priors: of every coefficient, of classes of them, and of parameters in their own unit."""
