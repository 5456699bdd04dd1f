"""Condensation: from a small start the neurons of a layer turn into a few directions.

The direction of a neuron is that of its input weight and bias together. While a wide network stands
at a plateau its neurons point into as many directions as a narrow network has neurons, which makes
it an embedding of that one (EP, arXiv 2105.14573, Fig. 1; Zhou et al., arXiv 2105.11686). Here are
the start and the learning rates from which a network condenses, and how far it has;
:mod:`phenodl.embedding.reduction` makes the narrow network.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from phenodl.embedding.networks import (
    Activation,
    Params,
    incoming,
    layers,
    require_hidden,
    unit_sizes,
    widths,
)
from phenodl.embedding.symmetries import is_odd
from phenodl.models import mlp
from phenodl.protocol import Data, Hyper, LossFn, Method, Objective, StepInfo

Init = Callable[[Key[Array, ""], Data, Hyper], Params]


def start(
    hidden: Sequence[int],
    *,
    output_scale: float = 1e-2,
    input_std: float = 1e-6,
    bias: bool = True,
) -> Init:
    """The ``init`` of a problem whose network is to condense, see :func:`init`.

    Args:
        hidden: units of each hidden layer.
        output_scale: sum of the absolute output weights, per output.
        input_std: standard deviation of all else.
        bias: whether the layers have biases.

    Example:
        >>> model = mlp.problem(jnp.ones((7, 3)), jnp.zeros((7, 2)), hidden=[5])
        >>> model = model._replace(init=start([5]))
        >>> params = model.init(jax.random.key(0), model.data, {})
        >>> print(jnp.abs(params["layer_1"]["weight"])[0].round(6))
        [0.002 0.002 0.002 0.002 0.002]
    """
    scales = {"output_scale": output_scale, "input_std": input_std}

    def draw(key: Key[Array, ""], data: Data, hyper: Hyper) -> Params:
        del hyper
        inputs, targets = data["inputs"], data["targets"]
        shape = (len(inputs), *hidden, len(targets))
        return init(key, shape, inputs.dtype, bias=bias, **scales)

    return draw


def init(
    key: Key[Array, ""],
    widths: Sequence[int],
    dtype: jnp.dtype | type = float,
    *,
    output_scale: float | Float[Array, ""] = 1e-2,
    input_std: float | Float[Array, ""] = 1e-6,
    bias: bool = True,
) -> Params:
    """Draws parameters from which the network condenses.

    The output weights are ±output_scale / m with random signs, m being the width of the last hidden
    layer. All other weights and all biases are Gaussian and far smaller. With one output, the first
    steps then move every neuron of the last hidden layer along one and the same vector, by an equal
    amount up to the sign of its output weight, which soon outgrows where it started; output weights
    of different sizes would leave the neurons with different norms. With several outputs there is
    one such vector for each pattern of the signs of a neuron's output weights.

    Args:
        key: of the draw.
        widths: units of every layer, from the inputs to the outputs.
        dtype: of the parameters.
        output_scale: sum of the absolute output weights, per output.
        input_std: standard deviation of all else.
        bias: whether the layers have biases.

    Returns:
        Parameters of :mod:`phenodl.models.mlp`.

    Raises:
        ValueError: as :func:`phenodl.models.mlp.init`.

    Example:
        >>> params = init(jax.random.key(0), [1, 4, 1])
        >>> print(jnp.abs(params["layer_1"]["weight"]).round(5))
        [[0.0025 0.0025 0.0025 0.0025]]
    """
    shapes = jax.eval_shape(lambda key: mlp.init(key, widths, dtype, bias=bias), key)
    leaves, structure = jax.tree.flatten(shapes)
    *keys, key_signs = jax.random.split(key, len(leaves) + 1)
    gaussian = [
        input_std * jax.random.normal(key, leaf.shape, leaf.dtype)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    params = jax.tree.unflatten(structure, gaussian)
    last = params[f"layer_{len(params) - 1}"]
    signs = jax.random.rademacher(key_signs, last["weight"].shape, last["weight"].dtype)
    last["weight"] = output_scale / widths[-2] * signs
    return params


@functools.cache
def mean_field(method: Method) -> Method:
    """A method at the learning rates under which a network moves alike at every width.

    Weights of a layer with ``out`` units that take ``in`` signals have their learning rate times
    out / in, biases times out, where inputs and outputs of the network count as one unit: the time
    scales of the mean-field limit (Mei, Montanari, Nguyen, arXiv 1804.06561, for one hidden layer;
    Nguyen, Pham, arXiv 2001.11443, for several). A wide network whose neurons are equal copies of
    those of a narrow one with equal shares of their output weights then moves exactly as that one.

    The method works in coordinates that are stretched by the root of these factors, in which the
    scaled flow is a plain one: a Runge-Kutta method stays what it is.

    Args:
        method: a gradient flow such as :func:`phenodl.optim.flow.rk4`, or gradient descent with
            momentum.

    Example:
        >>> from phenodl.optim import flow
        >>> method = mean_field(flow.rk4(lambda objective, params, hyper: hyper["learning_rate"]))
    """

    def enter(params: Params) -> tuple[Params, Params]:
        root = jax.tree.map(math.sqrt, learning_rates(params))
        return root, jax.tree.map(lambda leaf, r: leaf / r, params, root)

    def step(objective: Objective, params: Params, state: PyTree, hyper: Hyper):
        root, inside = enter(params)

        def leave(inside: Params) -> Params:
            return jax.tree.map(lambda leaf, r: leaf * r, inside, root)

        function: LossFn = lambda inside: objective.function(leave(inside))
        stretched = Objective(function, objective.loss, leave(objective.grads))
        inside, state, info = method.step(stretched, inside, state, hyper)
        return leave(inside), state, StepInfo(leave(info.update), info.dt)

    return Method(lambda params, hyper: method.init(enter(params)[1], hyper), step)


def learning_rates(params: Params) -> dict[str, dict[str, float]]:
    """The factors of :func:`mean_field`, one per array.

    Raises:
        ValueError: ``params`` are not those of a fully connected network.

    Example:
        >>> shapes = {"layer_0": (50, 1), "layer_1": (100, 50), "layer_2": (1, 100)}
        >>> params = {name: {"weight": jnp.ones(shape)} for name, shape in shapes.items()}
        >>> [factors["weight"] for factors in learning_rates(params).values()]
        [50.0, 2.0, 0.01]
    """
    units = (1, *widths(params)[1:-1], 1)
    return {
        f"layer_{number}": {
            name: float(out) / (fan_in if name == "weight" else 1) for name in sorted(layer)
        }
        for number, (layer, (fan_in, out)) in enumerate(
            zip(layers(params), itertools.pairwise(units), strict=True)
        )
    }


def condensation(params: Params, layer: int, activation: Activation) -> Float[Array, ""]:
    """How condensed a hidden layer is: the mean cosine between the directions of two units.

    The cosine similarity of (input weights, bias) of Zhou et al. (arXiv 2105.11686), averaged over
    all pairs, a unit with itself included, each unit weighted by its share of the sizes
    (:func:`phenodl.embedding.networks.unit_sizes`): units that do nothing do not count. 1 if all
    lie in one direction. Where the activation is odd, opposite directions are the same one, and the
    absolute cosine counts.

    Args:
        params: of the network.
        layer: number of the hidden layer.
        activation: of the hidden layers; says whether the sign counts.

    Returns:
        A number in [-1, 1], at least 0 if the sign does not count; NaN if every unit is zero.

    Raises:
        ValueError: the network has no such hidden layer.

    Example:
        >>> params = {"layer_0": {"weight": jnp.array([[1.0, 0.0], [-2.0, 0.0]])},
        ...           "layer_1": {"weight": jnp.array([[1.0, 0.5]])}}
        >>> [float(condensation(params, 0, each)) for each in (jnp.tanh, jax.nn.relu)]
        [1.0, 0.0]
    """
    require_hidden(params, layer)
    rows = incoming(params[f"layer_{layer}"])
    length = jnp.linalg.norm(rows, axis=1, keepdims=True)
    directions = rows / jnp.where(length > 0, length, 1.0)
    cosines = directions @ directions.T
    share = unit_sizes(params, layer)
    share = share / share.sum()
    return share @ (jnp.abs(cosines) if is_odd(activation) else cosines) @ share
