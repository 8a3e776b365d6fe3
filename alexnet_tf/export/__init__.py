"""Export: a finished run as a file that other programs load, compared with the run before it is kept."""

from alexnet_tf.export.savedmodel import ExportResult, export_savedmodel

__all__ = ["ExportResult", "export_savedmodel"]
