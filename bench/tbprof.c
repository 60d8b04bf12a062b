// SPDX-License-Identifier: GPL-2.0
/*
 * A QEMU TCG plugin that counts the guest's instructions by translated block, from the first to the second time
 * that the guest enters a function of its kernel.
 *
 * Arguments: mark=ADDRESS, of that function, and out=FILE, where a line "ADDRESS COUNT" for each block goes when
 * QEMU ends, both as their printf below has them. The plugin API has no header in Debian, so what is used of its
 * version 1 is declared here.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define BUCKETS (1u << 16)

typedef uint64_t qemu_plugin_id_t;
struct qemu_info_t;
struct qemu_plugin_tb;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
					   void (*cb)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, enum qemu_plugin_op op, void *ptr,
					      uint64_t value);
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*cb)(unsigned int, void *),
					  enum qemu_plugin_cb_flags flags, void *data);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, void *), void *data);

/* Translated code adds to instructions for as long as QEMU runs, so blocks never move and are never freed. */
struct block {
	uint64_t address, instructions, before, window;
	struct block *next;
};

static struct block *blocks[BUCKETS];
static const char *out;
static uint64_t mark;
static unsigned int marks;

static void marked(unsigned int vcpu, void *data)
{
	(void)vcpu;
	(void)data;
	if (marks++ > 1)
		return;
	for (unsigned int i = 0; i < BUCKETS; i++)
		for (struct block *block = blocks[i]; block; block = block->next) {
			block->window = block->instructions - block->before;
			block->before = block->instructions;
		}
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	uint64_t address = qemu_plugin_tb_vaddr(tb);
	struct block **head = &blocks[(address ^ (address >> 16)) % BUCKETS];
	struct block *block;

	(void)id;
	/* Code is translated again when QEMU's buffer of translations was full. */
	for (block = *head; block && block->address != address; block = block->next)
		;
	if (!block) {
		block = calloc(1, sizeof(*block));
		if (!block)
			abort();
		block->address = address;
		block->next = *head;
		*head = block;
	}
	qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &block->instructions,
						 qemu_plugin_tb_n_insns(tb));
	if (address == mark)
		qemu_plugin_register_vcpu_tb_exec_cb(tb, marked, QEMU_PLUGIN_CB_NO_REGS, NULL);
}

static void finished(qemu_plugin_id_t id, void *data)
{
	FILE *file = fopen(out, "w");

	(void)id;
	(void)data;
	if (!file) {
		perror(out);
		return;
	}
	if (marks < 2)
		fprintf(stderr, "tbprof: the mark was entered %u times\n", marks);
	for (unsigned int i = 0; i < BUCKETS; i++)
		for (struct block *block = blocks[i]; block; block = block->next)
			if (block->window)
				fprintf(file, "%" PRIx64 " %" PRIu64 "\n", block->address, block->window);
	fclose(file);
}

EXPORT int qemu_plugin_version = 1;

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int argc, char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "mark=", 5))
			mark = strtoull(argv[i] + 5, NULL, 16);
		else if (!strncmp(argv[i], "out=", 4))
			out = strdup(argv[i] + 4); /* QEMU frees its arguments */
	}
	if (!mark || !out) {
		fprintf(stderr, "tbprof: needs mark=ADDRESS and out=FILE\n");
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_atexit_cb(id, finished, NULL);
	return 0;
}
