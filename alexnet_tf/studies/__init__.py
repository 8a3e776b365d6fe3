"""Studies: many runs become one answer. Time to an error, intervals, tables, pictures and the report; no TensorFlow."""

from alexnet_tf.studies.claims import claims_table, find_results, load_claims
from alexnet_tf.studies.measures import (
    Bound,
    Effect,
    Reading,
    Summary,
    Verdict,
    judge,
    paired_difference,
    paired_ratio,
    summarize,
    time_to_error,
)
from alexnet_tf.studies.post import evaluate_study
from alexnet_tf.studies.progress import print_status, read_standings, standings_dict
from alexnet_tf.studies.report import Report, write_report
from alexnet_tf.studies.study import (
    Arm,
    Comparison,
    StudyResult,
    Trial,
    best_value,
    choose_value,
    load_study,
    load_trials,
)
from alexnet_tf.studies.sweep import make_job, resume_command, run_job
from alexnet_tf.studies.tidy import export_sweep, tidy_table

__all__ = [
    "Arm",
    "Bound",
    "Comparison",
    "Effect",
    "Reading",
    "Report",
    "StudyResult",
    "Summary",
    "Trial",
    "Verdict",
    "best_value",
    "choose_value",
    "claims_table",
    "evaluate_study",
    "export_sweep",
    "find_results",
    "judge",
    "load_claims",
    "load_study",
    "load_trials",
    "make_job",
    "paired_difference",
    "paired_ratio",
    "print_status",
    "read_standings",
    "resume_command",
    "run_job",
    "standings_dict",
    "summarize",
    "tidy_table",
    "time_to_error",
    "write_report",
]
