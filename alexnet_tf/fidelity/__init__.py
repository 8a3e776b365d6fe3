"""Our networks and recipes, measured as they are built, against what their sources say."""

from alexnet_tf.fidelity.comparison import Line, Report, agree, check, compose_checked
from alexnet_tf.fidelity.printing import print_end, print_report, show, summary
from alexnet_tf.fidelity.sources import Facts, Source, Sources, load_sources

__all__ = [
    "Facts",
    "Line",
    "Report",
    "Source",
    "Sources",
    "agree",
    "check",
    "compose_checked",
    "load_sources",
    "print_end",
    "print_report",
    "show",
    "summary",
]
