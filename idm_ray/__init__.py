"""Dataset condensation by Improved Distribution Matching (CVPR 2023), on a laptop or on Ray.

Importing this package loads neither torch nor Ray; its names do when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from idm_ray.analysis.analyse import analyse as analyse
    from idm_ray.comparison.compare import compare as compare
    from idm_ray.estimation.estimate import estimate as estimate
    from idm_ray.evaluation import evaluate as evaluate
    from idm_ray.formats.export import export as export
    from idm_ray.formats.opening import load as load
    from idm_ray.page.writing import write_report as write_report
    from idm_ray.run import condense as condense
    from idm_ray.run import resume as resume
    from idm_ray.tuning.tune import tune as tune

__version__ = "0.1.0"
__all__ = [
    "analyse",
    "compare",
    "condense",
    "estimate",
    "evaluate",
    "export",
    "load",
    "resume",
    "tune",
    "write_report",
]

_HOMES = {
    "analyse": "idm_ray.analysis.analyse",
    "compare": "idm_ray.comparison.compare",
    "condense": "idm_ray.run",
    "estimate": "idm_ray.estimation.estimate",
    "evaluate": "idm_ray.evaluation",
    "export": "idm_ray.formats.export",
    "load": "idm_ray.formats.opening",
    "resume": "idm_ray.run",
    "tune": "idm_ray.tuning.tune",
    "write_report": "idm_ray.page.writing",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'idm_ray' has no attribute {name!r}")
