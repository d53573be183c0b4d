/* Six sums with a ReLU, a loop that takes 402 instructions on any core, and the mean of the sums. */
#include "model.h"

#include "nbedge_kernels.h"

static signed char model_arena[MODEL_ARENA_BYTES] __attribute__((aligned(8)));
static const signed char weights[6 * 16] = {WEIGHTS};

void *model_input(void) { return model_arena; }
const void *model_output(void) { return model_arena + MODEL_INPUT_BYTES; }

void model_invoke(void) {
  signed char *hidden = model_arena + MODEL_INPUT_BYTES;
  sums(model_arena, weights, hidden, 16, 6);
  NBEDGE_AFTER_LAYER(0);
  idle();
  NBEDGE_AFTER_LAYER(1);
  mean(hidden, 6, hidden + 6);
  NBEDGE_AFTER_LAYER(2);
}
