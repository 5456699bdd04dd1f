"""The Embedding Principle: the landscape of a network holds the critical points of smaller ones.

A critical point of a network is one of every wider network of the same depth (EP, arXiv 2105.14573;
EP-h, arXiv 2111.15527), and of deeper ones where the activation is affine on the data (EP-d, arXiv
2205.13283). The modules are used by name. From narrow to wide and deep:

    networks       what an embedding asks of a fully connected network
    width          a unit copied (split), added (null), or added against the rule (silent)
    fibres         the general form: many copies at once
    composition    the same drawn at random, from any architecture to any wider one
    units          the primitive behind them, for any model
    channels       of a convolution; heads   of an attention, and its feed-forward units
    depth          a layer inserted, exactly or up to ε; affine   where an activation is affine
    factorization  matrix factorizations as networks, and Ω_k as an orbit of null embeddings

What becomes of a critical point:

    critical       search from many starts, polish
    inertia        negative, zero and positive eigenvalues of a Hessian, or "undetermined"
    degeneracy     the eigenvalues that an embedding adds, from the narrow network alone
    escape         how fast the flow leaves a saddle

And back, from a trained network to a small one:

    condensation   starts from which neurons align; how far they have; mean-field learning rates
    clusters       neurons of one direction; symmetries   what an activation does not see
    reduction      one neuron for each cluster; pruning   layers that are affine taken out
    catalogue      critical points told apart by their function; plateaus   that rest at them
"""

from phenodl.embedding.affine import AffineInterval, affine_intervals
from phenodl.embedding.catalogue import Entry, Match, match
from phenodl.embedding.composition import draw_compatible, embed
from phenodl.embedding.condensation import mean_field
from phenodl.embedding.critical import CriticalPoints, polish, require_critical, search
from phenodl.embedding.depth import approximate_lift, lift
from phenodl.embedding.fibres import Choice, compatible
from phenodl.embedding.inertia import Inertia
from phenodl.embedding.networks import widths
from phenodl.embedding.pruning import prune
from phenodl.embedding.reduction import Reduction, narrowest, reduce
from phenodl.embedding.width import null, silent, split

__all__ = [
    "AffineInterval",
    "Choice",
    "CriticalPoints",
    "Entry",
    "Inertia",
    "Match",
    "Reduction",
    "affine_intervals",
    "approximate_lift",
    "compatible",
    "draw_compatible",
    "embed",
    "lift",
    "match",
    "mean_field",
    "narrowest",
    "null",
    "polish",
    "prune",
    "reduce",
    "require_critical",
    "search",
    "silent",
    "split",
    "widths",
]
