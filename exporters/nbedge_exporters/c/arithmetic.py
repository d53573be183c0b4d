"""The fixed-point arithmetic of TFLite Micro's kernels, in whole numbers: multipliers, and functions of one byte.

Every function gives bit by bit what TFLite Micro and gemmlowp compute; tests compare all 256 values with them.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.int8]
#: limits of a byte, and of a 32-bit number
LOW, HIGH = -128, 127
INT32_LOW, INT32_HIGH = -(2**31), 2**31 - 1
#: largest right shift of the kernels' short way to a byte
LONGEST = 21


def quantized_multiplier(real: float) -> tuple[int, int]:
    """Return (m, s) with real = m / 2^31 * 2^s, m in [2^30, 2^31); (0, 0) for what is too small."""
    if not real:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = rounded(fraction * 2**31)
    if multiplier == 2**31:
        multiplier, shift = multiplier // 2, shift + 1
    if shift < -31:
        return 0, 0
    return (multiplier, shift) if shift <= 30 else (INT32_HIGH, 30)


def rounded(x: float) -> int:
    """Return the nearest whole number, halves away from zero, as C's round."""
    return math.floor(x + 0.5) if x >= 0 else math.ceil(x - 0.5)


def high_product(a: int, b: int) -> int:
    """Return a * b / 2^31, rounded: gemmlowp's SaturatingRoundingDoublingHighMul."""
    return min((a * b + 2**30) >> 31, INT32_HIGH)


def shifted(x: int, right: int) -> int:
    """Return x / 2^right, rounded, halves away from zero: gemmlowp's RoundingDivideByPOT."""
    mask = (1 << right) - 1
    return (x >> right) + int((x & mask) > (mask >> 1) + (x < 0))


def scaled(x: int, multiplier: int, shift: int) -> int:
    """Return x * multiplier / 2^31 * 2^shift, rounded twice: MultiplyByQuantizedMultiplier."""
    return shifted(high_product(x << max(shift, 0), multiplier), max(-shift, 0))


def input_radius(integer_bits: int, shift: int) -> int:
    """Return the largest input that does not overflow when it is shifted: CalculateInputRadius."""
    return math.floor(((1 << integer_bits) - 1) * (1 << (31 - integer_bits)) / (1 << shift))


def saturated(x: int, low: int = INT32_LOW, high: int = INT32_HIGH) -> int:
    """Return the nearest number that lies within limits."""
    return min(max(x, low), high)


#: bit of the remainder (as a power of 2) -> exp(-2^bit) in Q0.31
_BARREL = ((-2, 1672461947), (-1, 1302514674), (0, 790015084), (1, 290630308), (2, 39332535), (3, 720401), (4, 242))


def exponential(raw: int, integer_bits: int) -> int:
    """Return exp(x) in Q0.31 of x <= 0 with so many integer bits: gemmlowp's exp_on_negative_values."""
    if not raw:
        return INT32_HIGH
    fractional = 31 - integer_bits
    quarter = 1 << (fractional - 2)
    modulus = (raw & (quarter - 1)) - quarter
    result, rest = _exponential_of_quarter(modulus << integer_bits), modulus - raw
    for exponent, factor in _BARREL:
        if integer_bits > exponent and rest & (1 << (fractional + exponent)):
            result = high_product(result, factor)
    return result


def _exponential_of_quarter(a: int) -> int:
    """Return exp(a) of a in [-1/4, 0), both in Q0.31: a Taylor polynomial around -1/8."""
    constant, third = 1895147668, 715827883
    x = a + (1 << 28)
    x2 = high_product(x, x)
    x3, x4 = high_product(x2, x), high_product(x2, x2)
    tail = shifted(high_product(shifted(x4, 2) + x3, third) + x2, 1)
    return saturated(constant + high_product(constant, x + tail))


def _reciprocal(x: int) -> int:
    """Return 1 / (1 + x) of x in [0, 1], both in Q0.31: gemmlowp's one_over_one_plus_x_for_x_in_0_1."""
    denominator = (x + INT32_HIGH + 1) // 2
    guess = 1515870810 + high_product(denominator, -1010580540)
    for _ in range(3):
        guess += saturated(high_product(guess, 2**29 - high_product(denominator, guess)) << 2)
    return saturated(guess << 1)


def logistic(scale: float, zero: int) -> Bytes:
    """Return 1 / (1 + exp(-x)) of each byte of that scale and zero point; the result has the scale 1/256."""
    fraction, shift = math.frexp(float(scale) * 2**27)
    multiplier, radius = rounded(fraction * 2**31), input_radius(4, shift)

    def of(byte: int) -> int:
        x = byte - zero
        if abs(x) >= radius:
            return LOW if x < 0 else HIGH
        raw = scaled(x, multiplier, shift)
        if not raw:
            result = 2**30
        else:
            positive = _reciprocal(exponential(-abs(raw), 4))
            result = positive if raw > 0 else INT32_HIGH - positive
        return shifted(result, 23) - 128

    return table(of)


def hard_swish(scales: tuple[np.float32, np.float32], zeros: tuple[int, int]) -> Bytes:
    """Return x * relu6(x + 3) / 6 of each byte: the sixteen-bit arithmetic of TFLite's kernel."""
    fine = np.float32(1 / 128) * scales[0]
    # divided in double precision: a quotient of floats ends on the other side of some ties
    out_multiplier, out_shift = _half_multiplier(float(fine) / float(scales[1]))
    multiplier, shift = _half_multiplier(float(fine) / (3 / 32768))

    def of(byte: int) -> int:
        x = (byte - zeros[0]) << 7
        preshifted = _half_product(x, out_multiplier)
        gate = _half(x << (shift - 1)) if shift > 0 else x
        gate = _half_product(gate, multiplier)
        gate = _half(gate << 1) if shift > 0 else shifted(gate, -shift)
        gate = (gate + (1 << 15)) >> 1
        product = int(gate * preshifted / (1 << 15))
        return shifted(product, -out_shift) + zeros[1] if out_shift <= 0 else (product << out_shift) + zeros[1]

    return table(of)


def _half_multiplier(real: float) -> tuple[int, int]:
    multiplier, shift = quantized_multiplier(real)
    return min((multiplier + 2**15) >> 16, 2**15 - 1), shift


def _half(x: int) -> int:
    return saturated(x, -(2**15), 2**15 - 1)


def _half_product(a: int, b: int) -> int:
    return min((a * b + 2**14) >> 15, 2**15 - 1)


def rescaled(real: float, zeros: tuple[int, int], low: int = LOW, high: int = HIGH, first: int = LOW) -> Bytes:
    """Return each byte in another scale, within limits.

    Args:
        real: scale of the input over scale of the output.
        zeros: zero points of both.
        low: smallest result.
        high: largest result.
        first: the value of the smallest byte: 0 if bytes have no sign.
    """
    multiplier, shift = quantized_multiplier(real)
    return table(lambda byte: saturated(scaled(byte - zeros[0], multiplier, shift) + zeros[1], low, high), first)


def clamped(low: int, high: int) -> Bytes:
    """Return each byte within limits."""
    return table(lambda byte: saturated(byte, low, high))


def table(of: Callable[[int], int], first: int = LOW) -> Bytes:
    """Return a function's value of each byte, in the order of their bits without a sign."""
    values = [saturated(of(byte), LOW, HIGH) for byte in range(first, first + 256)]
    return np.roll(np.asarray(values, np.int8), -128 if first == LOW else 0)


def exponentials(beta: float, scale: float) -> list[int]:
    """Return exp(beta * scale * -d) in Q0.31 of d = 0, 1, 2, ... as far as TFLite's softmax takes them into account."""
    fraction, shift = math.frexp(min(float(beta) * float(scale) * 2**26, 2**31 - 1.0))
    multiplier = rounded(fraction * 2**31)
    if multiplier == 2**31:
        multiplier, shift = multiplier // 2, shift + 1
    known = min(input_radius(5, shift), 255)
    return [exponential(high_product(-d << shift, multiplier), 5) for d in range(known + 1)]


def activation_limits(kind: int, scale: float, zero: int) -> tuple[int, int]:
    """Return the limits of bytes behind a fused activation, by its number in TFLite's schema.

    Raises:
        KeyError: the activation is none of NONE, RELU, RELU_N1_TO_1 and RELU6.
    """
    low, high = {0: (None, None), 1: (0.0, None), 2: (-1.0, 1.0), 3: (0.0, 6.0)}[kind]

    def place(real: float) -> int:
        return zero + rounded(float(np.float32(real) / np.float32(scale)))

    return (
        LOW if low is None else saturated(place(low), LOW, HIGH),
        HIGH if high is None else saturated(place(high), LOW, HIGH),
    )
