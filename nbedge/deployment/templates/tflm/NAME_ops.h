// The operators of {{source}}, and no others. Written by nbedge; do not edit.
// NOT COMPILED HERE: TFLite Micro's sources are not where nbedge runs.
#ifndef {{NAME}}_OPS_H
#define {{NAME}}_OPS_H

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

using {{name}}_resolver = tflite::MicroMutableOpResolver<{{count}}>;

inline TfLiteStatus {{name}}_add_ops({{name}}_resolver *resolver) {
{{calls}}
  return kTfLiteOk;
}

#endif
