/* A mark after each layer: a label, which takes no instruction. */
#define NBEDGE_AFTER_LAYER(index) __asm__ volatile("nbedge_after_%c0_%=:" : : "i"(index) : "memory")
