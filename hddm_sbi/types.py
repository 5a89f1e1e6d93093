"""Short names of array types, of labels, and of links."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]

#: a level as a person writes it: the value in the table, where files can hold it.
Label = bool | int | float | str

#: from the scale on which coefficients add up to a parameter.
Link = Literal["identity", "log", "logit"]
