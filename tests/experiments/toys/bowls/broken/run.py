from experiments.experiment import Analysis


def train(config, recorder):
    if config.fault == "package":
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn.datasets")
    raise RuntimeError("the bowl is broken")


def analyze(config, results):
    return Analysis()
