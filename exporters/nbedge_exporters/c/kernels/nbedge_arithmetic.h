/* Arithmetic that the kernels share. Signed shifts to the right are arithmetic, as on every compiler for these cores. */
#ifndef NBEDGE_ARITHMETIC_H
#define NBEDGE_ARITHMETIC_H

#include "nbedge_kernels.h"

/* at -O0 the registers do not suffice for the blocks of assembler */
#if defined(__ARM_FEATURE_DSP) && defined(__thumb2__) && defined(__OPTIMIZE__)
#define NBEDGE_DSP 1
#else
#define NBEDGE_DSP 0
#endif

/* loops with blocks of assembler need all registers: what is around them goes into a function of its own */
#if defined(__GNUC__)
#define NBEDGE_APART static __attribute__((noinline))
#else
#define NBEDGE_APART static
#endif

static inline int32_t nbedge_clamped(int32_t x, int32_t low, int32_t high) {
  return x < low ? low : x > high ? high : x;
}

/* a * b / 2^31, rounded to the nearest, halves up. As gemmlowp's, but for -2^31 * -2^31, which never comes */
static inline int32_t nbedge_high_product(int32_t a, int32_t b) {
  return (int32_t)(((int64_t)a * b + ((int64_t)1 << 30)) >> 31);
}

/* c + a * b / 2^31, rounded to the nearest, halves up, of an a with less than 30 bits */
static inline int32_t nbedge_plus_product(int32_t c, int32_t a, int32_t b) {
#if NBEDGE_DSP
  int32_t sum;
  __asm__("smmlar %0, %1, %2, %3" : "=r"(sum) : "r"(a * 2), "r"(b), "r"(c));
  return sum;
#else
  return c + nbedge_high_product(a, b);
#endif
}

/* x / 2^n, rounded to the nearest, halves away from zero */
static inline int32_t nbedge_shifted(int32_t x, int n) {
  const int32_t rest = (int32_t)((uint32_t)x & (((uint32_t)1 << n) - 1)), half = (int32_t)((((uint32_t)1 << n) - 1) >> 1);
  return (x >> n) + (rest > half + (x < 0));
}

/* x * multiplier / 2^31 * 2^shift, rounded twice */
static inline int32_t nbedge_scaled(int32_t x, int32_t multiplier, int shift) {
  return shift > 0 ? nbedge_high_product((int32_t)((uint32_t)x << shift), multiplier)
                   : nbedge_shifted(nbedge_high_product(x, multiplier), -shift);
}

/* The byte of a sum of less than 30 bits, whose shift is -1 - `right` < 0.
 *
 * `half` = (2 * zero + 1) << right is half a unit of the result and its zero point. The sum's sign takes one from it,
 * because halves go away from zero. A shift by right and then by 1 is one by right + 1.
 */
static inline int8_t nbedge_byte(int32_t sum, int32_t multiplier, int32_t half, int right) {
  const int32_t x = nbedge_plus_product(half + (sum >> 31), sum, multiplier) >> right;
#if NBEDGE_DSP
  int32_t byte;
  __asm__("ssat %0, #8, %1, asr #1" : "=r"(byte) : "r"(x) : "cc");
  return (int8_t)byte;
#else
  return (int8_t)nbedge_clamped(x >> 1, -128, 127);
#endif
}

/* The byte of any sum. */
static inline int8_t nbedge_any_byte(int32_t sum, int32_t multiplier, int shift, int32_t zero) {
  return (int8_t)nbedge_clamped(nbedge_scaled(sum, multiplier, shift) + zero, -128, 127);
}

/* sum + x[0] * y[0] + x[1] * y[1] */
static inline int32_t nbedge_pair(int32_t sum, const int16_t *x, const int16_t *y) {
#if NBEDGE_DSP
  int32_t a, b, more;
  memcpy(&a, x, 4);
  memcpy(&b, y, 4);
  __asm__("smlad %0, %1, %2, %3" : "=r"(more) : "r"(a), "r"(b), "r"(sum));
  return more;
#else
  return sum + x[0] * y[0] + x[1] * y[1];
#endif
}

#endif
