/* Integer kernels of neural networks for microcontrollers: C99, no heap, nothing but <stdint.h> and <string.h>.
 *
 * Every kernel gives the bytes that TFLite Micro's reference kernels give. Activations are int8, (height, width,
 * channels) in memory. The constants of a layer lie in one struct, which belongs into flash.
 */
#ifndef NBEDGE_KERNELS_H
#define NBEDGE_KERNELS_H

#include <stdint.h>
#include <string.h>

/* called after each layer, with its number: define it to measure or to feed a watchdog */
#ifndef NBEDGE_AFTER_LAYER
#define NBEDGE_AFTER_LAYER(layer) ((void)0)
#endif

/* How sums become bytes: real scale = multiplier / 2^31 * 2^shift. Channels come in groups of the layer's size. */
typedef struct {
  const int8_t *weights;    /* by groups of channels, in each by 4 inputs */
  const int32_t *constants; /* by groups: a bias for each channel, then a multiplier for each */
  const int8_t *shifts;     /* one a channel; where `fast`, how far to the right beyond the first bit */
  int16_t channels;         /* outputs */
  int8_t zero;              /* zero point of the output */
  int8_t fast;              /* 1: every shift is between -21 and -1 and no sum needs more than 30 bits */
} nbedge_filters;

typedef struct {
  nbedge_filters filters;
  int16_t in_height, in_width, in_channels;
  int16_t out_height, out_width;
  int16_t height, width; /* of the filter */
  int16_t stride_y, stride_x, dilation_y, dilation_x;
  int16_t pad_y, pad_x; /* above and at the left */
  int8_t in_zero;       /* zero point of the input: what lies outside of it */
  int8_t copied;        /* 1: some rows of the filter reach outside, or are dilated */
} nbedge_conv;

/* Where one scale serves all channels, there is one group of multipliers and shifts. */
typedef struct {
  const int8_t *weights; /* as in nbedge_filters, by groups of 4 channels */
  const int32_t *biases, *multipliers;
  const int8_t *shifts;
  int16_t channels;
  int8_t zero, fast; /* as in nbedge_filters */
  int16_t inputs;    /* if no multiple of 4, the bytes behind the input are read and multiplied by 0 */
  int16_t rows;
  int8_t step; /* to the next group of multipliers and shifts: 4 or 0 */
} nbedge_dense;

typedef struct {
  int16_t in_height, in_width, channels;
  int16_t out_height, out_width;
  int16_t height, width, stride_y, stride_x, pad_y, pad_x;
} nbedge_pool;

/* what an operator of two inputs walks over: up to four dimensions */
typedef struct {
  int32_t flat;        /* elements, where both inputs are as large as the output; else 0 */
  int16_t sizes[4];    /* of the output */
  int32_t steps[2][4]; /* bytes from one element to the next in each dimension, of both inputs; 0 repeats */
} nbedge_pairs;

typedef struct {
  nbedge_pairs pairs;   /* the input with the larger scale comes first: that takes half of the other's arithmetic */
  int16_t zeros[2];
  int8_t right;         /* shift of the second input */
  int8_t out_right;     /* of the output, beyond the first bit */
  int8_t out_zero;
  int32_t multiplier, out_multiplier;
} nbedge_sum;

typedef struct {
  nbedge_pairs pairs;
  int16_t zeros[2];
  int8_t out_zero, shift;
  int32_t multiplier;
} nbedge_product;

typedef struct {
  int32_t outer, reduced, inner; /* sizes before, of and behind what is summed */
  int32_t zero;                  /* zero point of the input, times the number of elements */
  int32_t multiplier;
  int8_t shift, out_zero;
} nbedge_reduction;

typedef struct {
  int16_t sizes[4]; /* of the output */
  int32_t steps[4]; /* bytes in the input from one element of the output to the next */
} nbedge_transposition;

typedef struct {
  int16_t in[4], out[4], before[4];
  int8_t value;
} nbedge_padding;

typedef struct {
  int32_t rows, width; /* how many vectors, and of how many classes */
  const int32_t *exponentials; /* of the differences from the largest input: 0, -1, -2, ... in Q0.31 */
  int16_t known;       /* how many there are; all others are 0 */
} nbedge_softmax_layer;

/* scratch: 2 * taps halves, where row = width * in_channels rounded up to 4 and taps = height * row; and 2 * row bytes
 * more if rows are copied */
void nbedge_conv_2d(const nbedge_conv *layer, const int8_t *in, int8_t *out, void *scratch);
/* scratch: the padded plane of a channel and the taps of a filter in halves; out may be in where there are as many
 * channels in both */
void nbedge_depthwise_conv_2d(const nbedge_conv *layer, const int8_t *in, int8_t *out, void *scratch);
void nbedge_fully_connected(const nbedge_dense *layer, const int8_t *in, int8_t *out);
void nbedge_average_pool_2d(const nbedge_pool *layer, const int8_t *in, int8_t *out);
void nbedge_max_pool_2d(const nbedge_pool *layer, const int8_t *in, int8_t *out);
void nbedge_reduce(const nbedge_reduction *layer, const int8_t *in, int8_t *out);
/* out may be one of the inputs where no dimension of that is repeated */
void nbedge_add(const nbedge_sum *layer, const int8_t *a, const int8_t *b, int8_t *out);
void nbedge_mul(const nbedge_product *layer, const int8_t *a, const int8_t *b, int8_t *out);
void nbedge_minimum(const nbedge_pairs *layer, const int8_t *a, const int8_t *b, int8_t *out);
void nbedge_maximum(const nbedge_pairs *layer, const int8_t *a, const int8_t *b, int8_t *out);
/* any function of one byte, by the table of its 256 values; out may be in */
void nbedge_lookup(const int8_t table[256], const int8_t *in, int8_t *out, int32_t size);
void nbedge_clamp(int8_t *inout, int32_t size, int8_t low, int8_t high);
/* out may be in */
void nbedge_quantize(const float *in, int8_t *out, int32_t size, float scale, int32_t zero);
void nbedge_dequantize(const int8_t *in, float *out, int32_t size, float scale, int32_t zero);
void nbedge_transpose(const nbedge_transposition *layer, const int8_t *in, int8_t *out);
void nbedge_pad(const nbedge_padding *layer, const int8_t *in, int8_t *out);
/* one input of a concatenation: `outer` blocks of `size` bytes, `step` bytes apart in the output */
void nbedge_concatenate(const int8_t *in, int8_t *out, int32_t outer, int32_t size, int32_t step);
void nbedge_resize_nearest(const int8_t *in, int8_t *out, const int16_t *rows, const int16_t *columns, int32_t height,
                           int32_t width, int32_t in_width, int32_t channels);
void nbedge_softmax(const nbedge_softmax_layer *layer, const int8_t *in, int8_t *out);

#endif
