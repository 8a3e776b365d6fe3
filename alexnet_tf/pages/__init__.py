"""Pages: HTML that stands alone, its pictures and tables, and the same tables on the terminal. No TensorFlow."""

from alexnet_tf.pages.page import PLOTS, Link, Page, load_template, render, write_page
from alexnet_tf.pages.picture import COLOURS, GREY, LITERAL, STYLE, WIDTH, Picture, short
from alexnet_tf.pages.table import TextTable, print_table, rich_table

__all__ = [
    "COLOURS",
    "GREY",
    "LITERAL",
    "PLOTS",
    "STYLE",
    "WIDTH",
    "Link",
    "Page",
    "Picture",
    "TextTable",
    "load_template",
    "print_table",
    "render",
    "rich_table",
    "short",
    "write_page",
]
