/* From the outputs of {{source}} to boxes. Written by nbedge; do not edit. */
#ifndef {{NAME}}_BOXES_H
#define {{NAME}}_BOXES_H

#include <stdint.h>

#define {{NAME}}_CLASSES {{classes}}
#define {{NAME}}_ROWS {{rows}}
#define {{NAME}}_COLUMNS {{columns}}

#ifdef __cplusplus
extern "C" {
#endif

/* One object: its class, how surely it is there (0 to 1), and its box in shares of the picture's width and height. */
typedef struct {
  int label;
  float score, left, top, right, bottom;
} {{name}}_box;

/* the name of each class */
extern const char *const {{name}}_labels[{{NAME}}_CLASSES];

/* Find objects of at least the score `least` (between 0 and 1), the surest first; of two boxes of a class that overlap
   by more than a half the weaker one is left out. Writes up to `most` of them to `found`, and returns how many.
     scores: {{scores_place}}
     boxes:  {{boxes_place}} */
int {{name}}_find(const {{scores_type}} *scores, const {{boxes_type}} *boxes, float least, {{name}}_box *found, int most);

#ifdef __cplusplus
}
#endif

#endif
