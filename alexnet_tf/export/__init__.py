"""Export: a finished run as a file that other programs load, compared with the run before it is kept."""

from alexnet_tf.export.exporting import ExportResult, export_run
from alexnet_tf.export.served import ServedModel

__all__ = ["ExportResult", "ServedModel", "export_run"]
