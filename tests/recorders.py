"""Recorders that tests hand to the experiments."""

import jax

from experiments.recorder import Recorder
from phenodl.trainer import in_memory


class InMemory(Recorder):
    """Keeps every training's results and what is said, writes nothing."""

    def __init__(self):
        self.results = {}
        self.said = []

    def devices(self, most):
        return jax.local_devices()[:most]

    def say(self, text):
        self.said.append(text)

    def train(self, name, problem, method, runs, **how):
        self.results[name] = in_memory(name, problem, method, runs, **how)
        return self.results[name]
