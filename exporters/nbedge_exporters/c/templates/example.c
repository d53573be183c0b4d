/* How the model is used, and its self-test: the golden inputs must give the golden outputs, byte by byte. */
#include <stdio.h>
#include <string.h>

#include "$name.h"
#include "golden.h"

/* CRC-32 as zlib computes it */
static uint32_t crc32(const unsigned char *bytes, size_t size) {
  uint32_t crc = 0xffffffffu;
  for (; size > 0; size--) {
    crc ^= *bytes++;
    for (int i = 0; i < 8; i++) crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
  }
  return ~crc;
}

int main(void) {
  int wrong = crc32(&golden_inputs[0][0], sizeof golden_inputs) != GOLDEN_INPUTS_CRC32 ||
              crc32(&golden_outputs[0][0], sizeof golden_outputs) != GOLDEN_OUTPUTS_CRC32;
  if (wrong) printf("the golden vectors are damaged: their CRC is another\n");
  for (int i = 0; i < GOLDEN_COUNT; i++) {
    memcpy(${name}_input(), golden_inputs[i], ${NAME}_INPUT_BYTES);
    ${name}_invoke();
    const int differs = memcmp(${name}_output(), golden_outputs[i], ${NAME}_OUTPUT_BYTES) != 0;
    printf("golden vector %d: %s\n", i, differs ? "DIFFERS" : "equal");
    wrong |= differs;
  }
  return wrong;
}
