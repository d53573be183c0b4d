/* Softmax in fixed point. */
#include "nbedge_arithmetic.h"

static int nbedge_leading_zeros(uint32_t x) {
  int n = 0;
  for (; !(x >> 31); n++) x <<= 1;
  return n;
}

/* 1 / (1 + x) of x in [0, 1), both in Q0.31, by Newton's steps from 48/17 - 32/17 * x */
static int32_t nbedge_reciprocal(int32_t x) {
  const int32_t denominator = (int32_t)(((int64_t)x + INT32_MAX + 1) / 2); /* (1 + x) / 2 */
  int32_t guess = 1515870810 + nbedge_high_product(denominator, -1010580540); /* Q2.29 */
  for (int i = 0; i < 3; i++) {
    const int32_t error = (1 << 29) - nbedge_high_product(denominator, guess);
    /* the product of two numbers in Q2.29 is one in Q4.27, brought back with saturation */
    const int64_t step = (int64_t)nbedge_high_product(guess, error) * 4;
    guess += (int32_t)(step > INT32_MAX ? INT32_MAX : step < INT32_MIN ? INT32_MIN : step);
  }
  const int64_t twice = (int64_t)guess * 2; /* Q1.30 to Q0.31 with half of it: saturated */
  return (int32_t)(twice > INT32_MAX ? INT32_MAX : twice);
}

void nbedge_softmax(const nbedge_softmax_layer *layer, const int8_t *in, int8_t *out) {
  for (int32_t row = 0; row < layer->rows; row++, in += layer->width, out += layer->width) {
    int32_t largest = -128, sum = 0;
    for (int32_t i = 0; i < layer->width; i++)
      if (in[i] > largest) largest = in[i];
    for (int32_t i = 0; i < layer->width; i++)
      if (largest - in[i] < layer->known) sum += nbedge_shifted(layer->exponentials[largest - in[i]], 12);
    const int zeros = nbedge_leading_zeros((uint32_t)sum);
    const int32_t scale = nbedge_reciprocal((int32_t)(((uint32_t)sum << zeros) - ((uint32_t)1 << 31)));
    for (int32_t i = 0; i < layer->width; i++) {
      int32_t value = -128;
      if (largest - in[i] < layer->known)
        value += nbedge_shifted(nbedge_high_product(scale, layer->exponentials[largest - in[i]]), 12 - zeros + 31 - 8);
      out[i] = (int8_t)nbedge_clamped(value, -128, 127);
    }
  }
}
