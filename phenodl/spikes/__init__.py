"""Loss spikes in Adam: curvature along the training, alarms, and what follows them.

The modules are used by name. Some measure while training goes on:

    snapshots   reads Adam's state in the terms of the theory
    curvatures  of Adam's preconditioned Hessian, along gradient and update and the largest
    subset      the same along gradient and update, from a few micro-batches and with their error
    decoupling  g² and v̂ of each layer
    predict     signals that foretell a spike, from a second derivative or from none
    control     any optax chain with Adam, corrected while such a signal alarms
    monitor     all of it at once for any optax loop
    diagnosis   the post-mortem of a checkpoint

What was recorded is judged afterwards:

    detect      finds the spikes of a loss curve
    stages      parts each spike into its five stages
    decoupling  when v parts from g², and how it decays
    alarms      how well a signal that crosses a threshold foretells them
    roc         the same without a threshold
    sustained   signals of mini-batches that stay above a threshold for a while
    kinds       what a spike leaves behind
"""

from phenodl.spikes.curvatures import (
    alignment,
    directional,
    eigenpair,
    eigenvalue_probe,
    gradient_probe,
    mass,
    threshold_probe,
)
from phenodl.spikes.decoupling import Decoupling, layer_names, moments_probe
from phenodl.spikes.kinds import KINDS, Aftermath, aftermath, aftermath_of_runs
from phenodl.spikes.monitor import Report
from phenodl.spikes.roc import auc, shifted_auc
from phenodl.spikes.snapshots import Snapshot, snapshot
from phenodl.spikes.stages import STAGES, Stages, stages_of_runs
from phenodl.spikes.subset import subset_probe

__all__ = [
    "KINDS",
    "STAGES",
    "Aftermath",
    "Decoupling",
    "Report",
    "Snapshot",
    "Stages",
    "aftermath",
    "aftermath_of_runs",
    "alignment",
    "auc",
    "directional",
    "eigenpair",
    "eigenvalue_probe",
    "gradient_probe",
    "layer_names",
    "mass",
    "moments_probe",
    "shifted_auc",
    "snapshot",
    "stages_of_runs",
    "subset_probe",
    "threshold_probe",
]
