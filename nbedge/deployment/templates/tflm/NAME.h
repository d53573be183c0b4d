/* {{source}}, for TFLite Micro. Written by nbedge; do not edit. */
#ifndef {{NAME}}_H
#define {{NAME}}_H

#define {{NAME}}_DATA_BYTES {{model_bytes}}
#define {{NAME}}_INPUT_BYTES {{input_bytes}}
#define {{NAME}}_OUTPUT_BYTES {{output_bytes}}
/* {{measured_bytes}} that TFLite Micro takes on a machine with pointers of 8 bytes, and {{margin_bytes}} of margin; see README.md.
   On the device, interpreter.arena_used_bytes() says what it takes there. */
#define {{NAME}}_ARENA_BYTES {{arena_bytes}}

#ifdef __cplusplus
extern "C" {
#endif

/* the file, in flash, aligned to 16 bytes */
extern const unsigned char {{name}}_data[{{NAME}}_DATA_BYTES];

#ifdef __cplusplus
}
#endif

#endif
