// How the model is used, and its self-test: the golden inputs must give the golden outputs, byte by byte.
// NOT COMPILED HERE: TFLite Micro's sources are not where nbedge runs.
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"

#include "{{name}}.h"
#include "{{name}}_ops.h"
extern "C" {
#include "golden.h"
}

alignas(16) static uint8_t arena[{{NAME}}_ARENA_BYTES];

int main() {
  const tflite::Model *model = tflite::GetModel({{name}}_data);
  if (model->version() != TFLITE_SCHEMA_VERSION) {
    printf("the file has version %d of the schema\n", static_cast<int>(model->version()));
    return 1;
  }
  static {{name}}_resolver resolver;
  if ({{name}}_add_ops(&resolver) != kTfLiteOk) return 1;
  static tflite::MicroInterpreter interpreter(model, resolver, arena, sizeof arena);
  if (interpreter.AllocateTensors() != kTfLiteOk) {
    printf("the arena of %d bytes is too small; make {{NAME}}_ARENA_BYTES larger\n", {{NAME}}_ARENA_BYTES);
    return 1;
  }
  printf("%d of %d bytes of arena are used\n", static_cast<int>(interpreter.arena_used_bytes()), {{NAME}}_ARENA_BYTES);

  bool wrong = false;
  for (int i = 0; i < GOLDEN_COUNT; i++) {
    memcpy(interpreter.input(0)->data.raw, golden_inputs[i], {{NAME}}_INPUT_BYTES);
    if (interpreter.Invoke() != kTfLiteOk) return 1;
    const bool differs = memcmp(interpreter.output(0)->data.raw, golden_outputs[i], {{NAME}}_OUTPUT_BYTES) != 0;
    printf("golden vector %d: %s\n", i, differs ? "DIFFERS" : "equal");
    wrong |= differs;
  }
  return wrong;
}
