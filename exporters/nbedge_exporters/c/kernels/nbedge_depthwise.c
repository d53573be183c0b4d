/* Depthwise convolutions, a channel after the other: its plane is copied out with its border, and in halves, so that
 * two taps in a row are one word. */
#include "nbedge_arithmetic.h"

/* Copy a channel into its plane, whose border is there already. */
static void nbedge_gather(const nbedge_conv *layer, const int8_t *in, int16_t *plane, int32_t pitch, int32_t rows) {
  const int32_t channels = layer->in_channels, seen = pitch - layer->pad_x;
  const int32_t width = seen < layer->in_width ? seen : layer->in_width;
  const int32_t height = rows - layer->pad_y < layer->in_height ? rows - layer->pad_y : layer->in_height;
  for (int32_t y = 0; y < height; y++) {
    const int8_t *from = in + y * layer->in_width * channels;
    int16_t *to = plane + (y + layer->pad_y) * pitch + layer->pad_x, *end = to + width;
    for (; to + 3 < end; to += 4, from += 4 * channels) {
      const int8_t a = from[0], b = from[channels], c = from[2 * channels], d = from[3 * channels];
      to[0] = a, to[1] = b, to[2] = c, to[3] = d;
    }
    for (; to < end; to++, from += channels) *to = *from;
  }
}

typedef struct {
  int32_t bias, multiplier, half;
  int shift; /* as in the layer */
} nbedge_channel;

#if NBEDGE_DSP
/* A row of three taps at two pixels, sums a and b. With a stride of 1 the second pixel begins one element further. */
#define NBEDGE_ROW_1(place)                  \
  "ldrd %[v], %[w], [%[taps], #" place "]\n\t" \
  "ldr %[x], [%[at]]\n\t"                    \
  "ldr %[y], [%[at], #2]\n\t"                \
  "smlad %[a], %[x], %[v], %[a]\n\t"         \
  "smlad %[b], %[y], %[v], %[b]\n\t"         \
  "ldr %[x], [%[at], #4]\n\t"                \
  "smlabb %[a], %[x], %[w], %[a]\n\t"        \
  "smlatb %[b], %[x], %[w], %[b]\n\t"
#define NBEDGE_ROW_2(place)                  \
  "ldrd %[v], %[w], [%[taps], #" place "]\n\t" \
  "ldr %[x], [%[at]]\n\t"                    \
  "ldr %[y], [%[at], #4]\n\t"                \
  "smlad %[a], %[x], %[v], %[a]\n\t"         \
  "smlad %[b], %[y], %[v], %[b]\n\t"         \
  "ldrh %[x], [%[at], #8]\n\t"               \
  "smlabb %[a], %[y], %[w], %[a]\n\t"        \
  "smlabb %[b], %[x], %[w], %[b]\n\t"

#define NBEDGE_PLANE_3X3(ROW, stride)                                                                         \
  do {                                                                                                        \
    for (int32_t rows = layer->out_height; rows > 0; rows--, plane += layer->stride_y * pitch) {              \
      const int16_t *row = plane;                                                                             \
      for (int32_t left = layer->out_width; left > 0; left -= 2, row += 2 * (stride)) {                       \
        int32_t a = of->bias, b = a, v, w, x, y;                                                              \
        const int16_t *at = row;                                                                              \
        __asm__ volatile(ROW("0") "add %[at], %[pitch]\n\t" ROW("8") "add %[at], %[pitch]\n\t" ROW("16")      \
                         : [a] "+r"(a), [b] "+r"(b), [at] "+r"(at), [v] "=&r"(v), [w] "=&r"(w), [x] "=&r"(x), \
                           [y] "=&r"(y)                                                                       \
                         : [taps] "r"(taps), [pitch] "r"(2 * pitch)                                           \
                         : "memory");                                                                         \
        const int32_t multiplier = of->multiplier, half = of->half;                                           \
        const int shift = of->shift;                                                                          \
        *out = nbedge_byte(a, multiplier, half, shift), out += step;                                          \
        if (left == 1) break;                                                                                 \
        *out = nbedge_byte(b, multiplier, half, shift), out += step;                                          \
      }                                                                                                       \
    }                                                                                                         \
  } while (0)

/* One channel of filters of 3 x 3 taps, without dilation, at strides 1 and 2. */
NBEDGE_APART void nbedge_plane_3x3(const nbedge_conv *layer, const int16_t *plane, int32_t pitch, const int16_t *taps,
                                   const nbedge_channel *of, int8_t *out) {
  const int32_t step = layer->filters.channels;
  if (layer->stride_x == 1)
    NBEDGE_PLANE_3X3(NBEDGE_ROW_1, 1);
  else
    NBEDGE_PLANE_3X3(NBEDGE_ROW_2, 2);
}
#else
NBEDGE_APART void nbedge_plane_3x3(const nbedge_conv *layer, const int16_t *plane, int32_t pitch, const int16_t *taps,
                                   const nbedge_channel *of, int8_t *out) {
  const int32_t step = layer->filters.channels, stride = layer->stride_x;
  for (int32_t rows = layer->out_height; rows > 0; rows--, plane += layer->stride_y * pitch) {
    const int16_t *x = plane;
    for (int32_t left = layer->out_width; left > 0; left--, x += stride, out += step) {
      const int16_t *y = x + pitch, *z = y + pitch;
      int32_t sum = of->bias + x[0] * taps[0] + x[1] * taps[1] + x[2] * taps[2];
      sum += y[0] * taps[4] + y[1] * taps[5] + y[2] * taps[6] + z[0] * taps[8] + z[1] * taps[9] + z[2] * taps[10];
      *out = nbedge_byte(sum, of->multiplier, of->half, of->shift);
    }
  }
}
#endif

/* One channel of any filter. */
static void nbedge_plane(const nbedge_conv *layer, const int16_t *plane, int32_t pitch, const int16_t *taps,
                         const nbedge_channel *of, int8_t *out) {
  const nbedge_filters *filters = &layer->filters;
  const int32_t step = filters->channels, pairs = (layer->width + 1) / 2, apart = layer->dilation_x;
  for (int32_t y = 0; y < layer->out_height; y++) {
    for (int32_t x = 0; x < layer->out_width; x++, out += step) {
      const int16_t *from = plane + y * layer->stride_y * pitch + x * layer->stride_x, *tap = taps;
      int32_t sum = of->bias;
      for (int32_t i = 0; i < layer->height; i++, from += layer->dilation_y * pitch) {
        if (apart == 1) {
          for (int32_t j = 0; j < pairs; j++, tap += 2) sum = nbedge_pair(sum, from + 2 * j, tap);
        } else {
          for (int32_t j = 0; j < layer->width; j++) sum += from[j * apart] * tap[j];
          tap += 2 * pairs;
        }
      }
      *out = filters->fast ? nbedge_byte(sum, of->multiplier, of->half, of->shift)
                           : nbedge_any_byte(sum, of->multiplier, of->shift, filters->zero);
    }
  }
}

void nbedge_depthwise_conv_2d(const nbedge_conv *layer, const int8_t *in, int8_t *out, void *scratch) {
  const nbedge_filters *filters = &layer->filters;
  const int32_t channels = filters->channels, each = channels / layer->in_channels;
  const int32_t pitch = (layer->out_width - 1) * layer->stride_x + (layer->width - 1) * layer->dilation_x + 1;
  const int32_t rows = (layer->out_height - 1) * layer->stride_y + (layer->height - 1) * layer->dilation_y + 1;
  const int32_t taps_in_row = (layer->width + 1) / 2 * 2;
  int16_t *taps = scratch, *plane = taps + layer->height * taps_in_row;
  const int8_t *weights = filters->weights;
  const int short_way = filters->fast && layer->height == 3 && layer->width == 3 && layer->dilation_x == 1 &&
                        layer->dilation_y == 1 && layer->stride_x < 3;
  memset(taps, 0, (size_t)(2 * layer->height * taps_in_row));
  /* a pair of taps, or of pixels, may reach up to three elements behind the last one */
  for (int32_t i = 0; i < pitch * rows + 3; i++) plane[i] = layer->in_zero;
  for (int32_t c = 0; c < channels; c++) {
    nbedge_channel of = {filters->constants[2 * c], filters->constants[2 * c + 1], 0, filters->shifts[c]};
    if (filters->fast) of.half = (int32_t)((uint32_t)(2 * filters->zero + 1) << of.shift);
    for (int32_t i = 0; i < layer->height; i++)
      for (int32_t j = 0; j < layer->width; j++) taps[i * taps_in_row + j] = *weights++;
    if (c % each == 0) nbedge_gather(layer, in + c / each, plane, pitch, rows);
    if (short_way)
      nbedge_plane_3x3(layer, plane, pitch, taps, &of, out + c);
    else
      nbedge_plane(layer, plane, pitch, taps, &of, out + c);
  }
}
