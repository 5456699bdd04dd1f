"""phenodl: training dynamics, measured while they happen.

Modules are imported by name, ``from phenodl import sweep, training``; nothing is loaded before it
is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phenodl.results import collect, load
    from phenodl.spikes.control import guarded
    from phenodl.spikes.diagnosis import diagnose
    from phenodl.spikes.monitor import monitor

__version__ = "0.1.0"
__all__ = ["collect", "diagnose", "guarded", "load", "monitor"]

_HOME = {
    "collect": "phenodl.results",
    "diagnose": "phenodl.spikes.diagnosis",
    "guarded": "phenodl.spikes.control",
    "load": "phenodl.results",
    "monitor": "phenodl.spikes.monitor",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'phenodl' has no attribute {name!r}")
