import os

from experiments.experiment import Analysis


def train(config, recorder):
    if config.fault == "package":
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn.datasets")
    if config.fault == "death":
        os._exit(9)
    raise RuntimeError("the bowl is broken")


def analyze(config, results):
    return Analysis()
