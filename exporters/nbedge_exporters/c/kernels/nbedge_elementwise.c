/* Sums, products and whatever else works on one element, or on a pair. */
#include "nbedge_arithmetic.h"

/* Walk over the pairs of two inputs, the smaller of which may be repeated; OPERATION makes *out of x and y. */
#define NBEDGE_EACH_PAIR(pairs, a, b, out, OPERATION)                                                   \
  do {                                                                                                  \
    const int32_t *p = (pairs)->steps[0], *q = (pairs)->steps[1];                                       \
    for (int32_t i = 0; i < (pairs)->sizes[0]; i++)                                                     \
      for (int32_t j = 0; j < (pairs)->sizes[1]; j++)                                                   \
        for (int32_t k = 0; k < (pairs)->sizes[2]; k++) {                                               \
          const int8_t *first = (a) + i * p[0] + j * p[1] + k * p[2];                                   \
          const int8_t *second = (b) + i * q[0] + j * q[1] + k * q[2];                                  \
          for (int32_t l = (pairs)->sizes[3]; l > 0; l--, first += p[3], second += q[3]) {              \
            const int32_t x = *first, y = *second;                                                      \
            *(out)++ = (int8_t)(OPERATION);                                                             \
          }                                                                                             \
        }                                                                                               \
  } while (0)

/* Both inputs get 20 bits behind the point, in units of twice the larger scale: of the first one, whose scale that is,
 * half of them is exact. Halves of the second go away from zero, where there are any. */
static inline int32_t nbedge_added(const nbedge_sum *layer, int32_t x, int32_t y, int32_t half, int32_t sign) {
  const int32_t first = x - layer->zeros[0], second = y - layer->zeros[1];
  const int32_t small = nbedge_plus_product(half + ((second >> 31) & sign), second * (1 << 20), layer->multiplier);
  return (small >> layer->right) + first * (1 << 19);
}

void nbedge_add(const nbedge_sum *layer, const int8_t *a, const int8_t *b, int8_t *out) {
  const nbedge_sum own = *layer;
  const int32_t half = (int32_t)(((uint32_t)1 << own.right) >> 1), sign = own.right ? -1 : 0;
  const int32_t out_half = (int32_t)((uint32_t)(2 * own.out_zero + 1) << (own.out_right & 31));
  if (own.out_right < 23 && own.pairs.flat) {
    for (const int8_t *end = out + own.pairs.flat; out < end;)
      *out++ = nbedge_byte(nbedge_added(&own, *a++, *b++, half, sign), own.out_multiplier, out_half, own.out_right);
  } else if (own.out_right < 23) {
    NBEDGE_EACH_PAIR(&own.pairs, a, b, out,
                     nbedge_byte(nbedge_added(&own, x, y, half, sign), own.out_multiplier, out_half, own.out_right));
  } else {
    NBEDGE_EACH_PAIR(&own.pairs, a, b, out,
                     nbedge_any_byte(nbedge_added(&own, x, y, half, sign), own.out_multiplier, -1 - own.out_right,
                                     own.out_zero));
  }
}

void nbedge_mul(const nbedge_product *layer, const int8_t *a, const int8_t *b, int8_t *out) {
  NBEDGE_EACH_PAIR(&layer->pairs, a, b, out,
                   nbedge_any_byte((x - layer->zeros[0]) * (y - layer->zeros[1]), layer->multiplier, layer->shift,
                                   layer->out_zero));
}

void nbedge_minimum(const nbedge_pairs *layer, const int8_t *a, const int8_t *b, int8_t *out) {
  NBEDGE_EACH_PAIR(layer, a, b, out, x < y ? x : y);
}

void nbedge_maximum(const nbedge_pairs *layer, const int8_t *a, const int8_t *b, int8_t *out) {
  NBEDGE_EACH_PAIR(layer, a, b, out, x > y ? x : y);
}

void nbedge_lookup(const int8_t table[256], const int8_t *in, int8_t *out, int32_t size) {
  for (; size > 0; size--) *out++ = table[(uint8_t)*in++];
}

void nbedge_clamp(int8_t *inout, int32_t size, int8_t low, int8_t high) {
  for (; size > 0; size--, inout++) *inout = (int8_t)nbedge_clamped(*inout, low, high);
}

void nbedge_quantize(const float *in, int8_t *out, int32_t size, float scale, int32_t zero) {
  for (; size > 0; size--) {
    /* far beyond the bytes the conversion to an integer is not defined; nothing there changes the answer */
    float x = *in++ / scale;
    x = x < -1024 ? -1024 : x > 1024 ? 1024 : x;
    int32_t whole = (int32_t)x;
    const float rest = x - (float)whole;
    whole += (rest >= 0.5f) - (rest <= -0.5f);
    *out++ = (int8_t)nbedge_clamped(whole + zero, -128, 127);
  }
}

void nbedge_dequantize(const int8_t *in, float *out, int32_t size, float scale, int32_t zero) {
  /* backwards: out may begin where in begins */
  while (size-- > 0) out[size] = scale * (float)(in[size] - zero);
}
