"""Views of Adam's state: what optax's own Adam knows, named as in the theory of loss spikes.

The optimizer is ``optax.adam`` or ``optax.adamw``, never a second implementation. Each view is a
pure function of the optimizer state of *any* optax chain that holds exactly one Adam, read after
the gradient g_t has been absorbed: ``count`` gradients are in the moments, and the preconditioner
includes g_t².

    m̂ = m / (1 - b1^count)      v̂ = v / (1 - b2^count)      D = 1 / (sqrt(v̂) + eps)
    θ_{t+1} = θ_t - η_t (D m̂ + weight_decay θ_t)

Hyper-parameters may be Python numbers or traced arrays. Parameters that ``optax.masked`` or
``optax.partition`` keep from Adam stay ``optax.MaskedNode`` in every view. Before the first
gradient the bias-corrected moments are 0/0, and the views say NaN.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

Scalar = float | Float[Array, ""]
Count = Int[Array, ""]
LearningRate = Scalar | optax.Schedule


class Adam(NamedTuple):
    """The hyper-parameters of ``optax.adamw``: one source for the optimizer and for its analysis.

    Attributes:
        learning_rate: η, a number or a schedule, a function of the number of past updates.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to sqrt(v̂).
        eps_root: added to v̂ inside the root.
        weight_decay: coefficient of the decoupled weight decay; 0 gives ``optax.adam`` itself.

    Example:
        >>> Adam(learning_rate=0.01, b2=0.99).b1
        0.9
    """

    learning_rate: LearningRate
    b1: Scalar = 0.9
    b2: Scalar = 0.999
    eps: Scalar = 1e-8
    eps_root: Scalar = 0.0
    weight_decay: Scalar = 0.0

    def transformation(self) -> optax.GradientTransformation:
        """``optax.adam``, or ``optax.adamw`` if there is weight decay, with these values."""
        values: dict[str, Any] = self._asdict()
        if isinstance(self.weight_decay, int | float) and self.weight_decay == 0:
            del values["weight_decay"]
            return optax.adam(**values)
        return optax.adamw(**values)


def from_hyper(hyper: Mapping[str, Any]) -> Adam:
    """Adam with every value that a run's hyper-parameters name, and optax's defaults elsewhere.

    Args:
        hyper: scalars by name; names that are not Adam's are ignored.

    Raises:
        ValueError: if ``learning_rate`` is missing.

    Example:
        >>> from_hyper({"learning_rate": 0.1, "b2": 0.99, "init_std": 1.0}).b2
        0.99
    """
    if "learning_rate" not in hyper:
        raise ValueError(f"hyper must name learning_rate; it names {sorted(hyper)}")
    return Adam(**{name: hyper[name] for name in Adam._fields if name in hyper})


def adam_state(opt_state: PyTree) -> optax.ScaleByAdamState:
    """The one Adam state inside the state of an optax chain, however deeply wrapped.

    Args:
        opt_state: what ``init`` or ``update`` of an optax transformation returned.

    Raises:
        ValueError: if it holds no Adam state, or more than one; naming what it holds.

    Example:
        >>> clipped = optax.chain(optax.clip(1.0), optax.adam(0.1))
        >>> int(adam_state(clipped.init(jnp.zeros(3))).count)
        0
    """
    found = _nodes(opt_state, optax.ScaleByAdamState)
    if len(found) > 1:
        raise ValueError(
            f"opt_state must hold exactly one optax.ScaleByAdamState; found {len(found)}: guard"
            " each by itself, or look at the state of one: opt_state.inner_states[label]"
        )
    if not found:
        raise ValueError(
            "opt_state must hold exactly one optax.ScaleByAdamState; found 0, but"
            f" {_contents(opt_state)}: use optax.adam, optax.adamw or optax.nadam"
        )
    return found[0]


def _contents(opt_state: PyTree) -> str:
    """The types of the states in a chain, by name; those that are in it without a purpose aside."""
    names = re.findall(r"namedtuple\[(\w+)\]", str(jax.tree.structure(opt_state)))
    telling = [name for name in names if name not in ("EmptyState", "MaskedNode")]
    return ", ".join(dict.fromkeys(telling)) or "no state at all"


def _nodes(tree: PyTree, kind: type) -> list[Any]:
    """The outermost nodes of one type."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, kind))
    return [node for node in leaves if isinstance(node, kind)]


def _is_adam(node: PyTree) -> bool:
    return isinstance(node, optax.ScaleByAdamState)


def is_masked(node: PyTree) -> bool:
    """Whether a node of a view stands for parameters that are kept from Adam."""
    return isinstance(node, optax.MaskedNode)


def injected(opt_state: PyTree) -> dict[str, Array]:
    """The hyper-parameters that ``optax.inject_hyperparams`` gave Adam in the last update.

    Those of the transformations beside Adam are left out: a clipping's ``eps`` is not Adam's. Of
    nested injections the innermost one around Adam counts.

    Args:
        opt_state: the state of an optax chain.

    Returns:
        Scalars by name; empty if Adam is not injected.

    Example:
        >>> tx = optax.inject_hyperparams(optax.adam)(learning_rate=0.5)
        >>> float(injected(tx.init(jnp.zeros(3)))["learning_rate"])
        0.5
    """
    for node in _nodes(opt_state, optax.InjectStatefulHyperparamsState):
        if _nodes(node.inner_state, optax.ScaleByAdamState):
            return injected(node.inner_state) or dict(node.hyperparams)
    return {}


def settings_of(opt_state: PyTree, **given: LearningRate | None) -> Adam:
    """The hyper-parameters of the Adam inside a chain, as far as they can be known.

    Args:
        opt_state: the state of an optax chain.
        **given: by name, as in :class:`Adam`; what is None is the one that
            ``optax.inject_hyperparams`` gave Adam, if it did, and else optax's default.

    Raises:
        ValueError: if the learning rate is neither given nor injected.

    Example:
        >>> settings_of(optax.adam(0.1).init(jnp.zeros(3)), learning_rate=0.1, b1=None).b1
        0.9
    """
    known = {name: value for name, value in given.items() if value is not None}
    known = {**injected(opt_state), **known}
    if "learning_rate" not in known:
        raise ValueError(
            "learning_rate must be given, the number or schedule that optax was given: only"
            " optax.inject_hyperparams keeps it in the optimizer's state"
        )
    return from_hyper(known)


def with_second_moment(opt_state: PyTree, second: PyTree[Float[Array, "..."]]) -> PyTree:
    """The same state with another v, not bias-corrected, in its one Adam.

    Example:
        >>> state = with_second_moment(optax.adam(0.1).init(jnp.zeros(2)), jnp.ones(2))
        >>> adam_state(state).nu.tolist()
        [1.0, 1.0]
    """
    adam_state(opt_state)
    return jax.tree.map(
        lambda node: node._replace(nu=second) if _is_adam(node) else node,
        opt_state,
        is_leaf=_is_adam,
    )


def first_moment(opt_state: PyTree, *, b1: Scalar) -> PyTree[Float[Array, "..."]]:
    """The bias-corrected first moment m̂, by optax's own arithmetic; shaped like the parameters.

    Example:
        >>> tx = optax.adam(0.1)
        >>> with jax.numpy_dtype_promotion("standard"):
        ...     _, state = tx.update(jnp.full(2, 3.0), tx.init(jnp.zeros(2)))
        >>> print(first_moment(state, b1=0.9).round(4))
        [3. 3.]
    """
    state = adam_state(opt_state)
    with jax.numpy_dtype_promotion("standard"):
        return optax.tree.bias_correction(state.mu, b1, state.count)


def second_moment(opt_state: PyTree, *, b2: Scalar) -> PyTree[Float[Array, "..."]]:
    """The bias-corrected second moment v̂, by optax's own arithmetic; shaped like the parameters.

    Example:
        >>> tx = optax.adam(0.1)
        >>> with jax.numpy_dtype_promotion("standard"):
        ...     _, state = tx.update(jnp.full(2, 3.0), tx.init(jnp.zeros(2)))
        >>> print(second_moment(state, b2=0.999).round(3))
        [9. 9.]
    """
    state = adam_state(opt_state)
    with jax.numpy_dtype_promotion("standard"):
        return optax.tree.bias_correction(state.nu, b2, state.count)


def preconditioner(
    opt_state: PyTree, *, b2: Scalar, eps: Scalar = 1e-8, eps_root: Scalar = 0.0
) -> PyTree[Float[Array, "..."]]:
    """The diagonal D = 1 / (sqrt(v̂ + eps_root) + eps), shaped like the parameters.

    Example:
        >>> tx = optax.adam(0.1)
        >>> with jax.numpy_dtype_promotion("standard"):
        ...     _, state = tx.update(jnp.full(2, 4.0), tx.init(jnp.zeros(2)))
        >>> print(preconditioner(state, b2=0.999).round(4))
        [0.25 0.25]
    """
    return jax.tree.map(
        lambda v: 1 / (jnp.sqrt(v + eps_root) + eps), second_moment(opt_state, b2=b2)
    )


def effective_learning_rate(
    opt_state: PyTree,
    *,
    learning_rate: LearningRate,
    b2: Scalar,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
) -> PyTree[Float[Array, "..."]]:
    """The step size η_t D of every coordinate along m̂, shaped like the parameters.

    Example:
        >>> tx = optax.adam(0.1)
        >>> with jax.numpy_dtype_promotion("standard"):
        ...     _, state = tx.update(jnp.full(2, 4.0), tx.init(jnp.zeros(2)))
        >>> print(effective_learning_rate(state, learning_rate=0.1, b2=0.999).round(4))
        [0.025 0.025]
    """
    rate = current_learning_rate(learning_rate, jnp.asarray(adam_state(opt_state).count))
    diagonal = preconditioner(opt_state, b2=b2, eps=eps, eps_root=eps_root)
    return jax.tree.map(lambda d: rate.astype(d.dtype) * d, diagonal)


def current_learning_rate(learning_rate: LearningRate, count: Count) -> Float[Array, ""]:
    """η_t of the update that followed the ``count``-th gradient: a schedule at ``count - 1``.

    Example:
        >>> float(current_learning_rate(lambda updates: 0.5**updates, jnp.asarray(3)))
        0.25
    """
    return jnp.asarray(learning_rate(count - 1) if callable(learning_rate) else learning_rate)


def momentum_factor(count: Count, *, b1: Scalar) -> Float[Array, ""]:
    """(1 - b1) / (1 + b1) / (1 - b1^count), by which momentum shrinks the curvature Adam feels.

    The factor of the preconditioned Hessian of SPIKE (arXiv 2506.04805): at the edge of stability
    θ alternates in sign, and then the first moment is (1 - b1) / (1 + b1) of the gradient.

    Example:
        >>> round(float(momentum_factor(jnp.asarray(1000), b1=0.9)), 6)
        0.052632
    """
    with jax.numpy_dtype_promotion("standard"):
        return (1 - b1) / (1 + b1) / (1 - b1**count)


def stability_threshold(
    learning_rate: LearningRate, count: Count, *, weight_decay: Scalar = 0.0
) -> Float[Array, ""]:
    """The bound 2/η_t - weight_decay on the preconditioned curvature, beyond which steps grow.

    2/η is the criterion of SPIKE (arXiv 2506.04805). With decoupled weight decay θ = -θ' turns
    θ' = (1 - η w) θ - η λ θ, λ the curvature with the momentum factor, into λ = 2/η - w.

    Example:
        >>> float(stability_threshold(0.1, jnp.asarray(5), weight_decay=0.5))
        19.5
    """
    return 2 / current_learning_rate(learning_rate, count) - weight_decay


def layer_sums(tree: PyTree[Float[Array, "..."]], *, depth: int = 1) -> dict[str, Array]:
    """The sum of all entries of each layer, a layer being a subtree at the given depth.

    Args:
        tree: any pytree of arrays, usually shaped like the parameters.
        depth: the number of keys that name a layer: 1 for ``{"Dense_0": ...}``, 2 for flax's
            ``{"params": {"Dense_0": ...}}``.

    Returns:
        Scalars by name, the keys joined by "/".

    Raises:
        ValueError: if ``depth`` is below 1.

    Example:
        >>> sums = layer_sums({"a": {"w": jnp.ones(3), "b": jnp.ones(2)}, "c": jnp.ones(4)})
        >>> {name: float(total) for name, total in sums.items()}
        {'a': 5.0, 'c': 4.0}
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1; it is {depth}")
    sums: dict[str, Array] = {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        name = jax.tree_util.keystr(path[:depth], simple=True, separator="/")
        sums[name] = sums[name] + leaf.sum() if name in sums else leaf.sum()
    return sums


def gradient_ratio(
    opt_state: PyTree, grads: PyTree[Float[Array, "..."]], *, b2: Scalar, depth: int = 1
) -> dict[str, Array]:
    """The ratio ||g||² / ||sqrt(v̂)||² of each layer: far below 1 while v̂ decays on its own.

    A ratio of sums, not a mean of ratios: coordinates whose gradient has always been zero would
    contribute 0/0. Once it is far below 1, v ~ b2^t, the preconditioner's decay that precedes a
    spike (SPIKE, arXiv 2506.04805).

    Args:
        opt_state: optimizer state after ``grads`` were absorbed.
        grads: g_t, shaped like the parameters.
        b2: decay of the second moment.
        depth: the number of keys that name a layer, as in ``layer_sums``.

    Returns:
        Scalars by layer name; masked parameters do not count.

    Example:
        >>> tx, grads = optax.adam(0.1), {"w": jnp.full(2, 4.0)}
        >>> with jax.numpy_dtype_promotion("standard"):
        ...     _, state = tx.update(grads, tx.init(grads))
        >>> round(float(gradient_ratio(state, grads, b2=0.999)["w"]), 4)
        1.0
    """
    second = second_moment(opt_state, b2=b2)
    squares = jax.tree.map(
        lambda v, g: v if is_masked(v) else g**2, second, grads, is_leaf=is_masked
    )
    numerators, denominators = layer_sums(squares, depth=depth), layer_sums(second, depth=depth)
    return {name: numerators[name] / denominators[name] for name in denominators}
