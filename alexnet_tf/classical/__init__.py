"""What came before: features by a formula and a linear SVM on them. Arrays in, arrays out; imports no TensorFlow."""

from alexnet_tf.classical.classifier import Classifier
from alexnet_tf.classical.hog import hog_features
from alexnet_tf.classical.sift import bags_of_words, make_vocabulary, sift_descriptors
from alexnet_tf.classical.svm import FEWEST, LinearSVM, fit_best_svm, fit_svm

__all__ = [
    "FEWEST",
    "Classifier",
    "LinearSVM",
    "bags_of_words",
    "fit_best_svm",
    "fit_svm",
    "hog_features",
    "make_vocabulary",
    "sift_descriptors",
]
