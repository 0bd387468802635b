"""feature-agent: from a sentence and a dataset to validated machine-learning features."""

__version__ = "0.1.0"
