/* Counts the instructions that qemu-user executes, and writes the number to a file when the program ends. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "plugin.h"

int qemu_plugin_version = 1;

/* threads add to it without a lock: count programs of one thread */
static uint64_t executed;
static const char *path;

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_TO_64_BITS, &executed, qemu_plugin_tb_n_insns(block));
}

static void ended(qemu_plugin_id_t id, void *unused) {
  (void)id, (void)unused;
  FILE *file = fopen(path, "w");
  if (!file) return;
  fprintf(file, "%" PRIu64 "\n", executed);
  fclose(file);
}

/* the only argument is to=PATH */
int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int count, char **arguments) {
  (void)info;
  if (count != 1 || strncmp(arguments[0], "to=", 3)) return 1;
  path = strdup(arguments[0] + 3);
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, ended, NULL);
  return 0;
}
