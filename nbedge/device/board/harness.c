/* Runs the golden vectors FIRST to LAST - 1 and says what came out, in hexadecimal:

     answer BYTES            of vector FIRST
     differs VECTOR AT GOT WANTED   for each vector the first byte that is not the golden one
     stack BYTES             that the deepest inference took
     end

   subject.h names the model. It calls no library, which would count as the model's. */
#include <stdint.h>

#include "semihosting.h"
#include "subject.h"

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
enum { STACK_WORDS = 65536 / 4 };
static const uint32_t PAINT = 0xA5C35A3C;

/* the model has this stack for itself; a fault has the other one */
static uint32_t stack[STACK_WORDS] __attribute__((section(".stack"), aligned(8)));

/* The count of an inference ends at the label: it holds all of the function, and nothing else. */
__attribute__((naked, noinline, noclone)) static void invoke_on(void *top) {
  __asm__ volatile("push {r4, lr}\n msr psp, r0\n movs r0, #2\n msr control, r0\n isb\n"
                   " bl " TEXT(SUBJECT_INVOKE) "\nnbedge_returned:\n"
                   " movs r0, #0\n msr control, r0\n isb\n pop {r4, pc}");
}

static void say_bytes(const unsigned char *bytes, unsigned count) {
  static const char digits[] = "0123456789abcdef";
  char pair[3] = {0, 0, 0};
  for (; count; count--, bytes++) {
    pair[0] = digits[*bytes >> 4], pair[1] = digits[*bytes & 15];
    say(pair);
  }
}

static void say_number(uint32_t value) {
  const unsigned char bytes[4] = {value >> 24, value >> 16 & 255, value >> 8 & 255, value & 255};
  say(" "), say_bytes(bytes, 4);
}

static void compare(unsigned vector, const unsigned char *answer) {
  const unsigned char *wanted = golden_outputs[vector];
  for (unsigned at = 0; at < SUBJECT_OUTPUT_BYTES; at++)
    if (answer[at] != wanted[at]) {
      say("differs"), say_number(vector), say_number(at), say_number(answer[at]), say_number(wanted[at]), say("\n");
      return;
    }
}

static uint32_t touched(void) {
  unsigned word = 0;
  while (word < STACK_WORDS && stack[word] == PAINT) word++;
  return 4 * (STACK_WORDS - word);
}

int main(void) {
  for (volatile uint32_t *word = stack; word < stack + STACK_WORDS;) *word++ = PAINT;
  for (unsigned vector = FIRST; vector < LAST; vector++) {
    volatile unsigned char *input = SUBJECT_INPUT();
    for (unsigned at = 0; at < SUBJECT_INPUT_BYTES; at++) input[at] = golden_inputs[vector][at];
    invoke_on(stack + STACK_WORDS);
    const unsigned char *answer = SUBJECT_OUTPUT();
    if (vector == FIRST) say("answer "), say_bytes(answer, SUBJECT_OUTPUT_BYTES), say("\n");
    compare(vector, answer);
  }
  say("stack"), say_number(touched()), say("\nend\n");
  return 0;
}
