from .coordinates import Whitening as Whitening
from .density import FlatDensity as FlatDensity
from .density import flatten as flatten
from .sampling import OUT_OF_TIME as OUT_OF_TIME
from .sampling import SAMPLERS as SAMPLERS
from .sampling import Draws as Draws
from .sampling import find_sampler as find_sampler
from .sampling import sample as sample
