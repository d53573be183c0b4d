/* From the outputs of {{source}} to boxes, as nbedge.detection.decode does it. Written by nbedge; do not edit.
   Every cell of {{NAME}}_ROWS x {{NAME}}_COLUMNS may be the centre of an object of each class. */
#include "{{name}}_boxes.h"

#include <math.h>
#include <string.h>

#define CELLS ({{NAME}}_ROWS * {{NAME}}_COLUMNS)
#define OVERLAP 0.5f

const char *const {{name}}_labels[{{NAME}}_CLASSES] = { {{labels}} };

/* the real values of the outputs, which lie cell by cell */
static float logit_of(const {{scores_type}} *scores, int cell, int label) {
  return {{scores_real}};
}

static float side_of(const {{boxes_type}} *boxes, int cell, int side) {
  const float cells = {{boxes_real}};
  return cells > 0.0f ? cells : 0.0f;
}

static float within(float share) { return share < 0.0f ? 0.0f : share > 1.0f ? 1.0f : share; }

/* Return the box around the middle of a cell. */
static {{name}}_box around(const {{boxes_type}} *boxes, int cell, int label, float logit) {
  const float x = (float)(cell % {{NAME}}_COLUMNS) + 0.5f, y = (float)(cell / {{NAME}}_COLUMNS) + 0.5f;
  {{name}}_box box;
  box.label = label;
  box.score = 1.0f / (1.0f + expf(-logit));
  box.left = within((x - side_of(boxes, cell, 0)) / {{NAME}}_COLUMNS);
  box.top = within((y - side_of(boxes, cell, 1)) / {{NAME}}_ROWS);
  box.right = within((x + side_of(boxes, cell, 2)) / {{NAME}}_COLUMNS);
  box.bottom = within((y + side_of(boxes, cell, 3)) / {{NAME}}_ROWS);
  return box;
}

static float area_of(const {{name}}_box *box) { return (box->right - box->left) * (box->bottom - box->top); }

/* Return intersection over union. */
static float overlap_of(const {{name}}_box *a, const {{name}}_box *b) {
  const float width = fminf(a->right, b->right) - fmaxf(a->left, b->left);
  const float height = fminf(a->bottom, b->bottom) - fmaxf(a->top, b->top);
  const float shared = width > 0.0f && height > 0.0f ? width * height : 0.0f;
  const float together = area_of(a) + area_of(b) - shared;
  return together > 0.0f ? shared / together : 0.0f;
}

/* Return whether a surer box of its class lies where this one does. */
static int is_hidden(const {{name}}_box *box, const {{name}}_box *found, int count) {
  for (int i = 0; i < count; i++) {
    if (found[i].label == box->label && overlap_of(&found[i], box) > OVERLAP) return 1;
  }
  return 0;
}

int {{name}}_find(const {{scores_type}} *scores, const {{boxes_type}} *boxes, float least, {{name}}_box *found, int most) {
  static uint8_t seen[({{NAME}}_CLASSES * CELLS + 7) / 8];
  const float limit = logf(least / (1.0f - least));
  int count = 0;
  memset(seen, 0, sizeof seen);
  while (count < most) {
    int best = -1;
    float highest = 0.0f;
    for (int i = 0; i < {{NAME}}_CLASSES * CELLS; i++) {
      if (seen[i / 8] & (1u << (i % 8))) continue;
      const float logit = logit_of(scores, i % CELLS, i / CELLS);
      if (logit >= limit && (best < 0 || logit > highest)) {
        best = i;
        highest = logit;
      }
    }
    if (best < 0) break;
    seen[best / 8] |= (uint8_t)(1u << (best % 8));
    const {{name}}_box box = around(boxes, best % CELLS, best / CELLS, highest);
    if (!is_hidden(&box, found, count)) found[count++] = box;
  }
  return count;
}
