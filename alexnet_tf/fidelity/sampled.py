"""A number measured on a sample."""


class Sampled(float):
    """A float with the standard error of its measurement.

    Example:
    >>> Sampled(0.0101, error=0.0001).error
    0.0001
    """

    error: float

    def __new__(cls, value: float, error: float) -> "Sampled":
        """The number and its standard error."""
        number = super().__new__(cls, value)
        number.error = float(error)
        return number
