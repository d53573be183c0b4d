/* From reset to main, and out of the emulator after a fault; it calls no library, which would count as the model's. */
#include <stdint.h>

#include "semihosting.h"

extern uint32_t data_stored[], data_begin[], data_end[], bss_begin[], bss_end[], stack_top[];
int main(void);

void start(void) {
  uint32_t *to = data_begin;
  for (const uint32_t *from = data_stored; to < data_end;) *to++ = *from++;
  for (to = bss_begin; to < bss_end;) *to++ = 0;
#ifdef __ARM_FP
  *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* the floating-point unit */
  __asm__ volatile("dsb\n isb");
#endif
  leave(main());
}

static void fault(void) {
  say("fault\n");
  leave(FAULT);
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_top, start, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault,
};
