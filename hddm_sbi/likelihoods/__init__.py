"""log p(outcomes | theta) behind one protocol: exact, learned, or solved on a grid.

Doors: catalogue, checkpoint. All else is imported from here, and loaded on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
