/* Pooling, sums and means. */
#include "nbedge_arithmetic.h"

/* sum / count, rounded to the nearest, halves away from zero */
static int32_t nbedge_mean(int32_t sum, int32_t count) { return (sum + (sum > 0 ? count / 2 : -(count / 2))) / count; }

/* Walk over the windows of each pixel and channel; BEGIN and EACH work on its elements, END makes the byte. */
#define NBEDGE_EACH_WINDOW(layer, in, out, BEGIN, EACH, END)                                                        \
  do {                                                                                                              \
    const int32_t channels = (layer)->channels;                                                                     \
    for (int32_t y = -(layer)->pad_y, i = (layer)->out_height; i > 0; i--, y += (layer)->stride_y)                  \
      for (int32_t x = -(layer)->pad_x, j = (layer)->out_width; j > 0; j--, x += (layer)->stride_x) {               \
        const int32_t top = y < 0 ? 0 : y, left = x < 0 ? 0 : x;                                                    \
        const int32_t below = y + (layer)->height, behind = x + (layer)->width;                                     \
        const int32_t rows = (below < (layer)->in_height ? below : (layer)->in_height) - top;                       \
        const int32_t columns = (behind < (layer)->in_width ? behind : (layer)->in_width) - left;                   \
        const int8_t *corner = (in) + (top * (layer)->in_width + left) * channels;                                  \
        for (int32_t c = channels; c > 0; c--, corner++) {                                                          \
          const int8_t *row = corner;                                                                               \
          BEGIN;                                                                                                    \
          for (int32_t k = rows; k > 0; k--, row += (layer)->in_width * channels) {                                 \
            const int8_t *at = row;                                                                                 \
            for (int32_t l = columns; l > 0; l--, at += channels) EACH;                                             \
          }                                                                                                         \
          *(out)++ = (int8_t)(END);                                                                                 \
        }                                                                                                           \
      }                                                                                                             \
  } while (0)

void nbedge_average_pool_2d(const nbedge_pool *layer, const int8_t *in, int8_t *out) {
  NBEDGE_EACH_WINDOW(layer, in, out, int32_t sum = 0, sum += *at, nbedge_mean(sum, rows * columns));
}

void nbedge_max_pool_2d(const nbedge_pool *layer, const int8_t *in, int8_t *out) {
  NBEDGE_EACH_WINDOW(layer, in, out, int8_t largest = -128, largest = *at > largest ? *at : largest, largest);
}

void nbedge_reduce(const nbedge_reduction *layer, const int8_t *in, int8_t *out) {
  for (int32_t i = 0; i < layer->outer; i++, in += layer->reduced * layer->inner)
    for (int32_t j = 0; j < layer->inner; j++) {
      const int8_t *from = in + j;
      int32_t sum = -layer->zero;
      for (int32_t k = layer->reduced; k > 0; k--, from += layer->inner) sum += *from;
      *out++ = nbedge_any_byte(sum, layer->multiplier, layer->shift, layer->out_zero);
    }
}
