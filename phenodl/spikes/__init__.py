"""Loss spikes in Adam: curvature along the training, alarms, and what follows them.

The modules are used by name: ``curvatures`` and ``monitor`` measure while training goes on,
``detect``, ``alarms`` and ``decay`` judge what was recorded.
"""

from phenodl.spikes.curvatures import (
    Snapshot,
    directional,
    eigenpair,
    eigenvalue_probe,
    gradient_probe,
    snapshot,
    threshold_probe,
)
from phenodl.spikes.monitor import Report

__all__ = [
    "Report",
    "Snapshot",
    "directional",
    "eigenpair",
    "eigenvalue_probe",
    "gradient_probe",
    "snapshot",
    "threshold_probe",
]
