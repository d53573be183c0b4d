/* {{source}}, byte by byte; C and C++ alike. Written by nbedge; do not edit. */
#include "{{name}}.h"

#ifdef __cplusplus
#define ALIGNED alignas(16)
#else
#define ALIGNED __attribute__((aligned(16)))
#endif

ALIGNED const unsigned char {{name}}_data[{{NAME}}_DATA_BYTES] = {
{{array}}};
