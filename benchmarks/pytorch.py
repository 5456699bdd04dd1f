"""The same training and the same measurements in eager PyTorch and in torch.func.vmap.

Eager PyTorch trains one run after another with ``torch.optim.Adam``; torch.func.vmap trains all
runs of the sweep at once with Adam written out. Both take curvature B as a Hessian product along
D g, and in place of Lanczos three products in a row, which is less work than Lanczos does.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import numpy as np
import torch

from benchmarks.sine import B1, B2, EPS, LEARNING_RATE, SEEDS
from benchmarks.timing import Side
from phenodl.protocol import Problem

Parameters = tuple[torch.Tensor, ...]
Product = Callable[[Parameters], Parameters]
Count = int | torch.Tensor
Measure = Literal["nothing", "curvature", "products"]
SUFFIX: dict[Measure, str] = {
    "nothing": "",
    "curvature": " + λ_grad (B)",
    "products": " + 3 products",
}


def sides(problem: Problem, steps: int) -> dict[str, Side]:
    """All PyTorch sides on one thread, started from the parameters that JAX draws."""
    torch.set_num_threads(1)
    keys = jax.random.split(jax.random.key(0), SEEDS)
    drawn = jax.vmap(lambda key: problem.init(key, problem.data, {}))(keys)
    layers = [drawn[name][part] for name in sorted(drawn) for part in ("weight", "bias")]
    params = tuple(torch.tensor(np.asarray(layer)) for layer in layers)
    data = {name: torch.tensor(np.asarray(array)) for name, array in problem.data.items()}

    def loss(params: Parameters) -> torch.Tensor:
        weight, bias, out_weight, out_bias = params
        hidden = torch.tanh(weight @ data["inputs"] + bias[:, None])
        return ((out_weight @ hidden + out_bias[:, None] - data["targets"]) ** 2).mean()

    every = {}
    for measure, suffix in SUFFIX.items():
        one = tuple(layer[0] for layer in params)
        every[f"eager PyTorch{suffix}"] = eager(loss, one, measure, steps)
        every[f"torch.func.vmap{suffix}"] = vmapped(loss, params, measure, steps)
    return every


def eager(
    loss: Callable[[Parameters], torch.Tensor], start: Parameters, measure: Measure, steps: int
) -> Side:
    """One run, layer by layer and operation by operation."""
    params = tuple(layer.clone().requires_grad_() for layer in start)
    optimizer = torch.optim.Adam(params, lr=LEARNING_RATE, betas=(B1, B2), eps=EPS)
    count = 0

    def step() -> list[torch.Tensor]:
        value = loss(params)
        grads = torch.autograd.grad(value, params, create_graph=measure != "nothing")
        recorded = [value.detach()]

        def product(vector: Parameters) -> Parameters:
            return torch.autograd.grad(grads, params, vector, retain_graph=True)

        plain = tuple(grad.detach() for grad in grads)
        if measure == "curvature":
            second = [optimizer.state[layer].get("exp_avg_sq", torch.zeros(())) for layer in params]
            new = [B2 * v + (1 - B2) * g**2 for v, g in zip(second, plain, strict=True)]
            recorded.append(_curvature(product, plain, _along(plain, new, count), count))
        elif measure == "products":
            recorded.append(_repeated(product, plain))
        for layer, grad in zip(params, plain, strict=True):
            layer.grad = grad
        optimizer.step()
        return recorded

    def advance() -> int:
        nonlocal count
        for _ in range(steps):
            count += 1
            step()
        return steps

    return advance


def vmapped(
    loss: Callable[[Parameters], torch.Tensor], start: Parameters, measure: Measure, steps: int
) -> Side:
    """All runs at once, every operation batched over them."""

    def step(params: Parameters, first: Parameters, second: Parameters, count: torch.Tensor):
        grads, value = torch.func.grad_and_value(loss)(params)
        first = tuple(B1 * m + (1 - B1) * g for m, g in zip(first, grads, strict=True))
        second = tuple(B2 * v + (1 - B2) * g**2 for v, g in zip(second, grads, strict=True))

        def product(vector: Parameters) -> Parameters:
            return torch.func.jvp(torch.func.grad(loss), (params,), (vector,))[1]

        recorded = [value]
        if measure == "curvature":
            recorded.append(_curvature(product, grads, _along(grads, second, count), count))
        elif measure == "products":
            recorded.append(_repeated(product, grads))
        corrected = [m / (1 - B1**count) for m in first]
        update = _along(corrected, second, count)
        params = tuple(p - LEARNING_RATE * u for p, u in zip(params, update, strict=True))
        return params, first, second, recorded

    batched = torch.func.vmap(step, in_dims=(0, 0, 0, None))
    zeros = tuple(torch.zeros_like(layer) for layer in start)
    state = start, zeros, zeros
    count = torch.zeros(())

    def advance() -> int:
        nonlocal state, count
        with torch.no_grad():
            for _ in range(steps):
                count = count + 1
                *state, _ = batched(*state, count)
        return steps * SEEDS

    return advance


def _along(vector: Sequence[torch.Tensor], second: Sequence[torch.Tensor], count: Count):
    """D times a vector, with the second moment bias-corrected."""
    root = [torch.sqrt(v / (1 - B2**count)) + EPS for v in second]
    return tuple(x / r for x, r in zip(vector, root, strict=True))


def _curvature(
    product: Product, grads: Parameters, direction: Parameters, count: Count
) -> torch.Tensor:
    """Curvature B: the preconditioned Hessian along the gradient."""
    factor = (1 - B1) / (1 + B1) / (1 - B1**count)
    return factor * _inner(direction, product(direction)) / _inner(direction, grads)


def _repeated(product: Product, vector: Parameters) -> torch.Tensor:
    for _ in range(3):
        size = torch.sqrt(_inner(vector, vector))
        vector = product(tuple(x / size for x in vector))
    return torch.sqrt(_inner(vector, vector))


def _inner(left: Parameters, right: Parameters) -> torch.Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(left, right, strict=True)]).sum()
