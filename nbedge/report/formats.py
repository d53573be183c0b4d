"""How figures read on the page: as many digits as they are worth, a dash for what is not known."""

from math import floor, log10

UNKNOWN = "\N{EN DASH}"
_SPACE = "\N{NARROW NO-BREAK SPACE}"
_MINUS = "\N{MINUS SIGN}"


def percent(fraction: float | None) -> str:
    """Format a fraction in percent, without the sign.

    >>> percent(0.8525)
    '85.2'
    """
    return UNKNOWN if fraction is None else f"{100 * fraction:.1f}"


def points(fraction: float | None, other: float | None) -> str:
    """Format the difference of two fractions in points."""
    if fraction is None or other is None:
        return UNKNOWN
    return f"{100 * (fraction - other) + 0.0:+.1f}".replace("-", _MINUS)


def whole(number: int | None) -> str:
    """Format a count with its thousands apart."""
    return UNKNOWN if number is None else f"{number:,}".replace(",", _SPACE)


def kilobytes(size_bytes: int | None) -> str:
    """Format bytes in kB (1000 bytes), three digits."""
    return digits(None if size_bytes is None else size_bytes / 1e3)


def megabytes(size_bytes: int | None) -> str:
    """Format bytes in MB (1000 000 bytes), three digits."""
    return digits(None if size_bytes is None else size_bytes / 1e6)


def digits(value: float | None, count: int = 3) -> str:
    """Format `value` with `count` significant digits and no exponent.

    >>> digits(0.10849), digits(12.345), digits(16180.0)
    ('0.108', '12.3', '16180')
    """
    if value is None:
        return UNKNOWN
    magnitude = floor(log10(abs(value))) if value else 0
    return f"{value:.{max(0, count - 1 - magnitude)}f}"


def measured(value: float | None) -> str:
    """Format a figure of a check, which may be very small.

    >>> measured(1.2345e-15), measured(0), measured(44.2)
    ('1.23e-15', '0', '44.2')
    """
    return UNKNOWN if value is None else f"{value:.3g}"


def short_names(names: list[str]) -> dict[str, str]:
    """Drop the leading dot-separated parts that all `names` share, but never a whole name.

    >>> short_names(["net.fp32.onnx", "net.int8.onnx"])
    {'net.fp32.onnx': 'fp32.onnx', 'net.int8.onnx': 'int8.onnx'}
    >>> short_names([])
    {}
    """
    parts = [name.split(".") for name in names]
    shared = 0
    while parts and all(len(p) > shared + 1 and p[shared] == parts[0][shared] for p in parts):
        shared += 1
    return {name: ".".join(p[shared:]) for name, p in zip(names, parts, strict=True)}
