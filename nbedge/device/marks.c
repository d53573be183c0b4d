/* Counts the instructions that qemu-system executes, and notes the count each time that one of some addresses comes up.

   Arguments: to=PATH, the file that gets a line "ADDRESS COUNT" (hexadecimal, decimal) for each time, in order; and
   at=ADDRESS (hexadecimal), once for each address. COUNT is what was executed before the instruction at ADDRESS: the
   difference of two lines is exact, and noting one takes no instruction of the program's. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "plugin.h"

enum { MOST = 4096 };

int qemu_plugin_version = 1;

/* one core executes, and qemu calls back from its thread alone */
static uint64_t executed;
static uint64_t marks[MOST];
static int count;
static FILE *file;

static uint64_t *mark_at(uint64_t address) {
  for (int index = 0; index < count; index++)
    if (marks[index] == address) return &marks[index];
  return NULL;
}

static void reached(unsigned cpu, void *mark) {
  (void)cpu;
  fprintf(file, "%" PRIx64 " %" PRIu64 "\n", *(uint64_t *)mark, executed);
}

/* each instruction by itself: a block may hold a mark in its midst, or be left by an exception */
static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  (void)id;
  for (size_t index = 0; index < qemu_plugin_tb_n_insns(block); index++) {
    struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, index);
    uint64_t *mark = mark_at(qemu_plugin_insn_vaddr(instruction));
    if (mark) qemu_plugin_register_vcpu_insn_exec_cb(instruction, reached, NO_REGISTERS, mark);
    qemu_plugin_register_vcpu_insn_exec_inline(instruction, ADD_TO_64_BITS, &executed, 1);
  }
}

static void ended(qemu_plugin_id_t id, void *unused) {
  (void)id, (void)unused;
  fclose(file);
}

/* not strtoull: compiled by a new C library it may be one that an old one lacks */
static uint64_t hexadecimal(const char *text) {
  uint64_t value = 0;
  for (; *text; text++) value = 16 * value + (*text <= '9' ? *text - '0' : (*text | 32) - 'a' + 10);
  return value;
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int given, char **arguments) {
  (void)info;
  for (int index = 0; index < given; index++) {
    if (!strncmp(arguments[index], "to=", 3)) file = fopen(arguments[index] + 3, "w");
    else if (!strncmp(arguments[index], "at=", 3) && count < MOST) marks[count++] = hexadecimal(arguments[index] + 3);
    else return 1;
  }
  if (!file) return 1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, ended, NULL);
  return 0;
}
