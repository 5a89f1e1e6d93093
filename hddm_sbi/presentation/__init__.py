"""What people see: plots and reports.

Doors: plots, report.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["plots", "report"])
