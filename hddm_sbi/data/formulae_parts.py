"""The inner parts of formulae that the package uses, which its next version may move: imported here alone."""

from formulae import expr
from formulae.categorical import ENCODINGS as ENCODINGS
from formulae.environment import Environment as Environment
from formulae.expr import Assign as Assign
from formulae.expr import Binary as Binary
from formulae.expr import Grouping as Grouping
from formulae.expr import Literal as Literal
from formulae.expr import QuotedName as QuotedName
from formulae.expr import Variable as Variable
from formulae.parser import ParseError as ParseError
from formulae.parser import Parser as Parser
from formulae.resolver import Resolver as Resolver
from formulae.scanner import ScanError as ScanError
from formulae.scanner import Scanner as Scanner
from formulae.terms.call import Call as Call
from formulae.terms.call_resolver import LazyCall as LazyCall
from formulae.terms.call_resolver import LazyValue as LazyValue
from formulae.terms.call_resolver import LazyVariable as LazyVariable
from formulae.terms.terms import Intercept as Intercept
from formulae.terms.terms import Model as Model
from formulae.terms.terms import NegatedIntercept as NegatedIntercept
from formulae.token import Token as Token
from formulae.transforms import TRANSFORMS as TRANSFORMS
from formulae.transforms import NaturalCubicSpline as NaturalCubicSpline

#: a call as it is written; `Call` is a call as a term.
CallExpression = expr.Call
