#ifndef MODEL_H
#define MODEL_H

#define MODEL_ARENA_BYTES 32
#define MODEL_INPUT_BYTES 16
#define MODEL_OUTPUT_BYTES 7
#define MODEL_LAYERS 3

void *model_input(void);
const void *model_output(void);
void model_invoke(void);

#endif
