/* What moves bytes and computes nothing. */
#include "nbedge_kernels.h"

void nbedge_pad(const nbedge_padding *layer, const int8_t *in, int8_t *out) {
  const int16_t *size = layer->out, *before = layer->before, *from = layer->in;
  memset(out, layer->value, (size_t)((int32_t)size[0] * size[1] * size[2] * size[3]));
  for (int32_t i = 0; i < from[0]; i++)
    for (int32_t j = 0; j < from[1]; j++)
      for (int32_t k = 0; k < from[2]; k++, in += from[3])
        memcpy(out + (((i + before[0]) * size[1] + j + before[1]) * size[2] + k + before[2]) * size[3] + before[3], in,
               (size_t)from[3]);
}

void nbedge_transpose(const nbedge_transposition *layer, const int8_t *in, int8_t *out) {
  const int32_t *step = layer->steps;
  for (int32_t i = 0; i < layer->sizes[0]; i++)
    for (int32_t j = 0; j < layer->sizes[1]; j++)
      for (int32_t k = 0; k < layer->sizes[2]; k++) {
        const int8_t *from = in + i * step[0] + j * step[1] + k * step[2];
        for (int32_t l = layer->sizes[3]; l > 0; l--, from += step[3]) *out++ = *from;
      }
}

void nbedge_concatenate(const int8_t *in, int8_t *out, int32_t outer, int32_t size, int32_t step) {
  for (; outer > 0; outer--, in += size, out += step) memcpy(out, in, (size_t)size);
}

void nbedge_resize_nearest(const int8_t *in, int8_t *out, const int16_t *rows, const int16_t *columns, int32_t height,
                           int32_t width, int32_t in_width, int32_t channels) {
  for (int32_t y = 0; y < height; y++)
    for (int32_t x = 0; x < width; x++, out += channels)
      memcpy(out, in + (rows[y] * in_width + columns[x]) * channels, (size_t)channels);
}
