/* Calls to what runs this program: an emulator or a debugger. */
#ifndef NBEDGE_SEMIHOSTING_H
#define NBEDGE_SEMIHOSTING_H

enum { SYS_WRITE0 = 0x04, SYS_EXIT_EXTENDED = 0x20, APPLICATION_EXIT = 0x20026, FAULT = 70 };

static inline void semihosting(int operation, const void *argument) {
  register int r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

static inline void say(const char *text) { semihosting(SYS_WRITE0, text); }

static inline void leave(int status) {
  const int block[2] = {APPLICATION_EXIT, status};
  semihosting(SYS_EXIT_EXTENDED, block);
  for (;;) {
  }
}

#endif
