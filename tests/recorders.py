"""Recorders that tests hand to the experiments."""

import phenodl
from experiments.recorder import Recorder
from phenodl import training


class InMemory(Recorder):
    """Keeps every training's results, writes nothing."""

    def __init__(self):
        self.results = {}

    def train(self, name, problem, method, runs, **how):
        self.results[name] = phenodl.collect(training.train(problem, method, runs, **how))
        return self.results[name]
