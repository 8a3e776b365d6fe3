"""Pictures of data, of networks and of what they have learned."""

from alexnet_tf.visualize.figures import FIGURES, Subjects, draw_figures
from alexnet_tf.visualize.gallery import visualize_run
from alexnet_tf.visualize.inspection import contact_sheet, difference_hash, inspect_data

__all__ = [
    "FIGURES",
    "Subjects",
    "contact_sheet",
    "difference_hash",
    "draw_figures",
    "inspect_data",
    "visualize_run",
]
