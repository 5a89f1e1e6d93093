"""Any Pyro model -> a compiled log density -> draws. Knows no hierarchy and no decision model.

Doors: inference_data, nuts, approximation. All else is imported from here, and loaded on first use: the command line
lists the samplers without loading torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
