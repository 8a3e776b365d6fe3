# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # AlexNet in Python, on handwritten digits
#
# Compose a config, train the network with ReLU and with tanh, look at what came out, use it, export it. The data are the
# 1,797 digits that scikit-learn brings, so nothing is downloaded; all of it takes about a minute on two CPU cores.
# Runs go to the folder `runs` where this is started. This is `tour.py`; `tour.ipynb` is the same, executed.

# %%
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf

import alexnet_tf as at
from alexnet_tf import data

# %% [markdown]
# ## A config
#
# What the command line takes, `compose` takes as a list. A misspelt key is an error that names the choices.

# %%
recipe = [
    "data=digits",
    "model=digits_quick",  # the four-layer network of the paper's Figure 1, for small drawings
    "model.init=glorot_uniform",
    "augment.scale.divisor=64",
    "optimizer.lr=0.03",
    "training.epochs=15",
    "training.progress=none",
]
at.compose(recipe)

# %%
try:
    at.compose([*recipe, "model.activaton=tanh"])
except at.ConfigError as error:
    print(error)

# %% [markdown]
# ## The network
#
# An ordinary `keras.Model` from preprocessed images to logits.

# %%
at.build_model("digits_quick", num_classes=10, input_channels=1).summary()

# %% [markdown]
# ## ReLU against tanh
#
# `train` takes a config or the list itself, and leaves a run folder with everything that is needed to do it again.

# %%
runs = {activation: at.train([*recipe, f"model.activation={activation}"]) for activation in ("relu", "tanh")}
for run in runs.values():
    print(run)

# %% [markdown]
# The metrics are a pandas frame, a row for each epoch and split; errors are fractions.

# %%
frame = pd.concat({name: run.metrics() for name, run in runs.items()}, names=["activation"]).reset_index(0)
frame.groupby(["activation", "split"]).tail(1)[["activation", "split", "step", "loss", "top1_error"]]

# %% [markdown]
# Both learn it. One run of each, at one rate, on a problem this small says little about which is faster: the study
# `relu_vs_tanh` measures that on photographs, with several seeds and the best rate for each.

# %%
colours = {"relu": "#0072B2", "tanh": "#D55E00"}
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for (name, split), rows in frame.groupby(["activation", "split"]):
    style = "-" if split == "train" else "--"
    for ax, column in zip(axes, ("loss", "top1_error"), strict=True):
        ax.plot(rows["epoch"], rows[column], style, color=colours[name], label=f"{name}, {split}")
        ax.set(xlabel="Epoch", ylabel=column.replace("_", " "), ylim=(0, None))
axes[0].legend()
plt.show()

# %% [markdown]
# ## Predictions
#
# `predict` takes uint8 images as they are stored: the run knows its preprocessing. These are of the validation split,
# which the network has not been trained on.

# %%
run = runs["relu"]
examples = list(data.raw_examples(run.load_source(), "validation").take(16).as_numpy_iterator())
images, labels = (np.stack(part) for part in list(zip(*examples, strict=True))[:2])
probabilities = run.predict(images)
print(f"{(probabilities.argmax(axis=1) == labels).sum()} of {len(labels)} right")

# %%
figure, axes = plt.subplots(2, 8, figsize=(8, 2.7), layout="constrained")
for ax, image, label, row in zip(axes.flat, images, labels, probabilities, strict=True):
    ax.imshow(image[..., 0], cmap="gray_r")
    found = row.argmax()
    ax.set_title(
        f"{run.class_names[found]} ({row[found]:.0%})", color="black" if found == label else "#D55E00", size=9
    )
    ax.set_axis_off()
plt.show()

# %% [markdown]
# ## What the first layer looks for
#
# The 32 kernels of `conv1`, grey where a weight is zero.

# %%
kernels = run.model().get_layer("conv1").kernel.numpy()[:, :, 0]
limit = np.abs(kernels).max()
figure, axes = plt.subplots(4, 8, figsize=(6, 3.2), layout="constrained")
for index, ax in enumerate(axes.flat):
    ax.imshow(kernels[..., index], cmap="gray", vmin=-limit, vmax=limit)
    ax.set_axis_off()
plt.show()

# %% [markdown]
# ## A model that serves
#
# `alexnet export RUN` makes a SavedModel with the preprocessing and the labels inside. It needs no `alexnet_tf` to load.

# %%
subprocess.run([sys.executable, "-m", "alexnet_tf", "export", str(run.path)], check=True, capture_output=True)
(folder,) = (run.path / "export" / "savedmodel").iterdir()
served = tf.saved_model.load(str(folder)).signatures["serving_default"](images=tf.constant(images))
difference = np.abs(served["probabilities"].numpy() - probabilities).max()
print(f"The SavedModel's probabilities differ from the run's by at most {difference:.1g}.")
