/* Convolutions and fully connected layers: each weight that is loaded serves two pixels, each input that is loaded two
 * or four channels. Four inputs, that is one word, make a block; what is missing in the last has weights of 0. */
#include "nbedge_arithmetic.h"

#if NBEDGE_DSP
#define NBEDGE_WIDEN                          \
  "ldr %[a], [%[first]], #4\n\t"              \
  "ldr %[b], [%[second]], #4\n\t"             \
  "sxtb16 %[c], %[a]\n\t"                     \
  "sxtb16 %[d], %[b]\n\t"                     \
  "strd %[c], %[d], [%[columns]], #8\n\t"     \
  "sxtb16 %[a], %[a], ror #8\n\t"             \
  "sxtb16 %[b], %[b], ror #8\n\t"             \
  "strd %[a], %[b], [%[columns]], #8\n\t"
#endif

/* Two pixels, widened to halves and interleaved by blocks, as NBEDGE_DOT_2X2 reads them. */
static inline void nbedge_widen(int16_t *columns, const int8_t *first, const int8_t *second, int32_t blocks) {
#if NBEDGE_DSP
  int32_t a, b, c, d;
  __asm__ volatile(
      "lsrs %[n], #1\n\t"
      "bcc 1f\n\t" NBEDGE_WIDEN
      "cmp %[n], #0\n\t"
      "beq 2f\n\t"
      "1:\n\t" NBEDGE_WIDEN NBEDGE_WIDEN
      "subs %[n], #1\n\t"
      "bne 1b\n\t"
      "2:"
      : [a] "=&r"(a), [b] "=&r"(b), [c] "=&r"(c), [d] "=&r"(d), [columns] "+r"(columns), [first] "+r"(first),
        [second] "+r"(second), [n] "+r"(blocks)
      :
      : "cc", "memory");
#else
  for (; blocks > 0; blocks--, first += 4, second += 4, columns += 8)
    for (int i = 0; i < 4; i++) columns[i] = first[i], columns[4 + i] = second[i];
#endif
}

/* A block of two channels and of two pixels is 16 products. The quick one takes all fourteen registers: one load brings
 * both pixels, in four that must be in order. Code that does not depend on its place has thirteen, and so may code of
 * -Os; define NBEDGE_SPARE_REGISTERS where the compiler misses one for other reasons, such as -ffixed-r9. */
#if !defined(NBEDGE_SPARE_REGISTERS) && (defined(__clang__) || defined(__PIC__) || defined(__OPTIMIZE_SIZE__))
#define NBEDGE_SPARE_REGISTERS
#endif
#if NBEDGE_DSP && !defined(NBEDGE_SPARE_REGISTERS)
#define NBEDGE_LOOP NBEDGE_APART __attribute__((optimize("omit-frame-pointer")))
#define NBEDGE_REGISTERS int32_t t, v, w
#define NBEDGE_TAKEN [t] "=&r"(t), [v] "=&r"(v), [w] "=&r"(w)
#define NBEDGE_FIXED "r8", "r10", "r11", "r12",
#define NBEDGE_BLOCK                           \
  "ldm %[columns]!, {r8, r10, r11, r12}\n\t"   \
  "ldrd %[v], %[w], [%[weights]], #8\n\t"      \
  "sxtb16 %[t], %[v]\n\t"                      \
  "smlad %[a], %[t], r8, %[a]\n\t"             \
  "smlad %[c], %[t], r10, %[c]\n\t"            \
  "sxtb16 %[v], %[v], ror #8\n\t"              \
  "smlad %[a], %[v], r11, %[a]\n\t"            \
  "smlad %[c], %[v], r12, %[c]\n\t"            \
  "sxtb16 %[t], %[w]\n\t"                      \
  "smlad %[b], %[t], r8, %[b]\n\t"             \
  "smlad %[d], %[t], r10, %[d]\n\t"            \
  "sxtb16 %[w], %[w], ror #8\n\t"              \
  "smlad %[b], %[w], r11, %[b]\n\t"            \
  "smlad %[d], %[w], r12, %[d]\n\t"
#elif NBEDGE_DSP
#define NBEDGE_LOOP NBEDGE_APART
#define NBEDGE_REGISTERS int32_t t, v, w, x, y
#define NBEDGE_TAKEN [t] "=&r"(t), [v] "=&r"(v), [w] "=&r"(w), [x] "=&r"(x), [y] "=&r"(y)
#define NBEDGE_FIXED
#define NBEDGE_BLOCK                           \
  "ldrd %[v], %[w], [%[weights]], #8\n\t"      \
  "ldrd %[x], %[y], [%[columns]], #8\n\t"      \
  "sxtb16 %[t], %[v]\n\t"                      \
  "smlad %[a], %[t], %[x], %[a]\n\t"           \
  "smlad %[c], %[t], %[y], %[c]\n\t"           \
  "sxtb16 %[t], %[w]\n\t"                      \
  "smlad %[b], %[t], %[x], %[b]\n\t"           \
  "smlad %[d], %[t], %[y], %[d]\n\t"           \
  "ldrd %[x], %[y], [%[columns]], #8\n\t"      \
  "sxtb16 %[v], %[v], ror #8\n\t"              \
  "smlad %[a], %[v], %[x], %[a]\n\t"           \
  "smlad %[c], %[v], %[y], %[c]\n\t"           \
  "sxtb16 %[w], %[w], ror #8\n\t"              \
  "smlad %[b], %[w], %[x], %[b]\n\t"           \
  "smlad %[d], %[w], %[y], %[d]\n\t"
#else
#define NBEDGE_LOOP NBEDGE_APART
#endif

/* Add the products of two pixels with two channels: of the first pixel to a and b, of the second to c and d. */
#if NBEDGE_DSP
#define NBEDGE_DOT_2X2(a, b, c, d, columns, weights, blocks)                                                     \
  do {                                                                                                           \
    const int16_t *from = columns;                                                                               \
    int32_t left_blocks = blocks;                                                                                \
    NBEDGE_REGISTERS;                                                                                            \
    __asm__ volatile(                                                                                            \
        "lsrs %[n], #1\n\t"                                                                                      \
        "bcc 1f\n\t" NBEDGE_BLOCK                                                                                \
        "1: lsrs %[n], #1\n\t"                                                                                   \
        "bcc 2f\n\t" NBEDGE_BLOCK NBEDGE_BLOCK                                                                   \
        "2: cmp %[n], #0\n\t"                                                                                    \
        "beq 4f\n\t"                                                                                             \
        "3:\n\t" NBEDGE_BLOCK NBEDGE_BLOCK NBEDGE_BLOCK NBEDGE_BLOCK                                             \
        "subs %[n], #1\n\t"                                                                                      \
        "bne 3b\n"                                                                                               \
        "4:"                                                                                                     \
        : [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [d] "+r"(d), NBEDGE_TAKEN, [columns] "+r"(from),                \
          [weights] "+r"(weights), [n] "+r"(left_blocks)                                                         \
        :                                                                                                        \
        : NBEDGE_FIXED "cc", "memory");                                                                          \
  } while (0)
#else
#define NBEDGE_TAP(i, a, b, c, d)                                                             \
  do {                                                                                        \
    const int32_t v = weights[i], w = weights[4 + (i)], x = from[i], y = from[4 + (i)];       \
    a += x * v, b += x * w, c += y * v, d += y * w;                                           \
  } while (0)
#define NBEDGE_DOT_2X2(a, b, c, d, columns, weights, blocks)                                  \
  do {                                                                                        \
    const int16_t *from = columns;                                                            \
    for (int32_t n = blocks; n > 0; n--, from += 8, weights += 8) {                           \
      NBEDGE_TAP(0, a, b, c, d);                                                              \
      NBEDGE_TAP(1, a, b, c, d);                                                              \
      NBEDGE_TAP(2, a, b, c, d);                                                              \
      NBEDGE_TAP(3, a, b, c, d);                                                              \
    }                                                                                         \
  } while (0)
#endif

/* All channels of two pixels. The bytes of the second are written first: where there is none, it is the first. */
NBEDGE_LOOP void nbedge_channels(const nbedge_filters *filters, const int16_t *columns, int32_t blocks, int8_t *out,
                            int8_t *second) {
  const int8_t *weights = filters->weights, *shifts = filters->shifts;
  const int32_t *constants = filters->constants, twice = 2 * filters->zero + 1;
  for (int32_t left = filters->channels; left > 0; left -= 2) {
    int32_t a = constants[0], b = constants[1], c = a, d = b;
    NBEDGE_DOT_2X2(a, b, c, d, columns, weights, blocks);
    const int32_t m = constants[2], n = constants[3], s = shifts[0], t = shifts[1];
    const int32_t half = (int32_t)((uint32_t)twice << s), other = (int32_t)((uint32_t)twice << t);
    constants += 4, shifts += 2;
    *second++ = nbedge_byte(c, m, half, s), *out++ = nbedge_byte(a, m, half, s);
    if (left == 1) break;
    *second++ = nbedge_byte(d, n, other, t), *out++ = nbedge_byte(b, n, other, t);
  }
}

NBEDGE_LOOP void nbedge_any_channels(const nbedge_filters *filters, const int16_t *columns, int32_t blocks, int8_t *out,
                                int8_t *second) {
  const int8_t *weights = filters->weights, *shifts = filters->shifts;
  const int32_t *constants = filters->constants;
  for (int32_t left = filters->channels; left > 0; left -= 2, constants += 4, shifts += 2) {
    int32_t a = constants[0], b = constants[1], c = a, d = b;
    NBEDGE_DOT_2X2(a, b, c, d, columns, weights, blocks);
    *second++ = nbedge_any_byte(c, constants[2], shifts[0], filters->zero);
    *out++ = nbedge_any_byte(a, constants[2], shifts[0], filters->zero);
    if (left == 1) break;
    *second++ = nbedge_any_byte(d, constants[3], shifts[1], filters->zero);
    *out++ = nbedge_any_byte(b, constants[3], shifts[1], filters->zero);
  }
}

/* One row of the filter at a pixel where it reaches outside, or is dilated: a copy with the zero point around it. */
static const int8_t *nbedge_row(const nbedge_conv *layer, const int8_t *in, int32_t y, int32_t x, int8_t *copy) {
  const int32_t channels = layer->in_channels, step = layer->dilation_x;
  int8_t *to = copy;
  memset(copy, layer->in_zero, (size_t)(layer->width * channels));
  if (y >= 0 && y < layer->in_height)
    for (int32_t i = layer->width; i > 0; i--, x += step, to += channels)
      if (x >= 0 && x < layer->in_width) memcpy(to, in + (y * layer->in_width + x) * channels, (size_t)channels);
  return copy;
}

/* Where the window of a pixel begins, and whether all of it lies inside. */
typedef struct {
  const int8_t *at;
  int32_t y, x, inside;
} nbedge_place;

static inline nbedge_place nbedge_placed(const nbedge_conv *layer, const int8_t *in, int32_t y, int32_t x) {
  const nbedge_place p = {
      in + (y * layer->in_width + x) * layer->in_channels, y, x,
      !layer->copied || (layer->dilation_x == 1 && y >= 0 && x >= 0 && x + layer->width <= layer->in_width &&
                         y + (layer->height - 1) * layer->dilation_y < layer->in_height)};
  return p;
}

/* The columns of two pixels, at least one of whose windows reaches outside or is dilated. */
NBEDGE_APART void nbedge_copied_columns(const nbedge_conv *layer, const int8_t *in, const nbedge_place *p,
                                        const nbedge_place *q, int16_t *columns, int32_t blocks, int8_t *copies) {
  const int32_t pitch = layer->dilation_y * layer->in_width * layer->in_channels;
  for (int32_t i = 0, down = 0; i < layer->height; i++, down += layer->dilation_y, columns += 8 * blocks) {
    const int8_t *first = p->inside ? p->at + i * pitch : nbedge_row(layer, in, p->y + down, p->x, copies);
    const int8_t *second = q->inside ? q->at + i * pitch : nbedge_row(layer, in, q->y + down, q->x, copies + 4 * blocks);
    nbedge_widen(columns, first, second, blocks);
  }
}

void nbedge_conv_2d(const nbedge_conv *layer, const int8_t *in, int8_t *out, void *scratch) {
  const int32_t blocks = (layer->width * layer->in_channels + 3) / 4, channels = layer->filters.channels;
  const int32_t pitch = layer->dilation_y * layer->in_width * layer->in_channels, width = layer->out_width;
  int16_t *columns = scratch;
  int8_t *copies = (int8_t *)(columns + 8 * blocks * layer->height);
  int32_t y = -layer->pad_y, x = -layer->pad_x, behind = width;
  if (layer->copied) memset(copies, 0, (size_t)(8 * blocks));
  for (int32_t left = layer->out_height * width; left > 0; left -= 2, out += 2 * channels) {
    const nbedge_place p = nbedge_placed(layer, in, y, x);
    nbedge_place q = p;
    x += layer->stride_x;
    if (--behind == 0) behind = width, x = -layer->pad_x, y += layer->stride_y;
    if (left > 1) {
      q = nbedge_placed(layer, in, y, x);
      x += layer->stride_x;
      if (--behind == 0) behind = width, x = -layer->pad_x, y += layer->stride_y;
    }
    if (p.inside && q.inside) {
      const int8_t *first = p.at, *second = q.at;
      int16_t *to = columns;
      for (int32_t i = layer->height; i > 0; i--, to += 8 * blocks, first += pitch, second += pitch)
        nbedge_widen(to, first, second, blocks);
    } else {
      nbedge_copied_columns(layer, in, &p, &q, columns, blocks, copies);
    }
    if (layer->filters.fast)
      nbedge_channels(&layer->filters, columns, blocks * layer->height, out, left > 1 ? out + channels : out);
    else
      nbedge_any_channels(&layer->filters, columns, blocks * layer->height, out, left > 1 ? out + channels : out);
  }
}

/* Add the products of one row of inputs with four channels. */
static inline const int8_t *nbedge_dot_1x4(const int8_t *in, const int8_t *weights, int32_t blocks, int32_t sums[4]) {
#if NBEDGE_DSP
  int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3], t, v, w, x, y;
  __asm__ volatile(
      "1: ldr %[y], [%[in]], #4\n\t"
      "ldrd %[v], %[w], [%[weights]], #8\n\t"
      "sxtb16 %[x], %[y]\n\t"
      "sxtb16 %[y], %[y], ror #8\n\t"
      "sxtb16 %[t], %[v]\n\t"
      "smlad %[a], %[t], %[x], %[a]\n\t"
      "sxtb16 %[v], %[v], ror #8\n\t"
      "smlad %[a], %[v], %[y], %[a]\n\t"
      "sxtb16 %[t], %[w]\n\t"
      "smlad %[b], %[t], %[x], %[b]\n\t"
      "sxtb16 %[w], %[w], ror #8\n\t"
      "smlad %[b], %[w], %[y], %[b]\n\t"
      "ldrd %[v], %[w], [%[weights]], #8\n\t"
      "sxtb16 %[t], %[v]\n\t"
      "smlad %[c], %[t], %[x], %[c]\n\t"
      "sxtb16 %[v], %[v], ror #8\n\t"
      "smlad %[c], %[v], %[y], %[c]\n\t"
      "sxtb16 %[t], %[w]\n\t"
      "smlad %[d], %[t], %[x], %[d]\n\t"
      "sxtb16 %[w], %[w], ror #8\n\t"
      "smlad %[d], %[w], %[y], %[d]\n\t"
      "subs %[blocks], #1\n\t"
      "bne 1b"
      : [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [d] "+r"(d), [t] "=&r"(t), [v] "=&r"(v), [w] "=&r"(w), [x] "=&r"(x),
        [y] "=&r"(y), [in] "+r"(in), [weights] "+r"(weights), [blocks] "+r"(blocks)
      :
      : "cc", "memory");
  sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
  return weights;
#else
  for (; blocks > 0; blocks--, in += 4, weights += 16)
    for (int i = 0; i < 16; i++) sums[i / 4] += in[i % 4] * weights[i];
  return weights;
#endif
}

void nbedge_fully_connected(const nbedge_dense *layer, const int8_t *in, int8_t *out) {
  const int32_t blocks = (layer->inputs + 3) / 4, twice = 2 * layer->zero + 1;
  for (int32_t row = 0; row < layer->rows; row++, in += layer->inputs) {
    const int8_t *weights = layer->weights, *shifts = layer->shifts;
    const int32_t *biases = layer->biases, *multipliers = layer->multipliers;
    for (int32_t left = layer->channels; left > 0; left -= 4, biases += 4) {
      int32_t sums[4] = {biases[0], biases[1], biases[2], biases[3]};
      weights = nbedge_dot_1x4(in, weights, blocks, sums);
      for (int i = 0; i < 4 && i < left; i++) {
        *out++ = layer->fast ? nbedge_byte(sums[i], multipliers[i], (int32_t)((uint32_t)twice << shifts[i]), shifts[i])
                             : nbedge_any_byte(sums[i], multipliers[i], shifts[i], layer->zero);
      }
      multipliers += layer->step, shifts += layer->step;
    }
  }
}
