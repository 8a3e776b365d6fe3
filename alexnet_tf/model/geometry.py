"""Output sizes of convolutions and pooling windows, as cuda-convnet counts them."""

ROUNDINGS = ("down", "up")


def output_size(size: int | None, window: int, stride: int, padding: int, rounding: str) -> int | None:
    """The number of windows along one side.

        down: 1 + floor((2 padding + size - window) / stride)
        up:   1 + ceil((2 padding + size - window) / stride)

    Rounded up, the last window reaches past the lower or right edge (Krizhevsky's cuda-convnet; the paper's 224
    becomes 55 only so).

    Args:
        size: Pixels along the side; None if not known.
        window: Side of the kernel or pooling window in pixels.
        stride: Pixels between windows.
        padding: Zero pixels on each side.
        rounding: `"down"` or `"up"`.

    Returns:
        The size, None where it is not known, or 0 where not even one window fits.
    """
    if size is None:
        return None
    room = 2 * padding + size - window
    if room < 0:
        return 0
    return 1 + (room // stride if rounding == "down" else -(-room // stride))


def check_fits(name: str, shape: tuple[int | None, ...], window: int, padding: int) -> None:
    """Raises a ValueError that names the layer if one window does not fit into a map `[N, H, W, C]`."""
    if len(shape) != 4:
        raise ValueError(
            f"The input does not fit layer '{name}'. Expected [N, H, W, C]. Received: shape {tuple(shape)}"
        )
    height, width = shape[1:3]
    smallest = min(height or window, width or window)
    if smallest + 2 * padding < window:
        expected = window - 2 * padding
        raise ValueError(
            f"The map has become too small for layer '{name}'. Expected at least {expected} x {expected} pixels "
            f"(window {window}, padding {padding}). Received: {height} x {width}"
        )
