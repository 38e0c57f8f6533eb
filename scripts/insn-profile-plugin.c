// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The part of scripts/insn-profile that runs inside QEMU: notes which
 * instructions the guest executes between the two markers of
 * userspace/bench/bench.hpp, and appends a record to a file for each such
 * window. The guest's instruction count is not changed by it.
 *
 * Debian ships no header for QEMU's plugins; what is used of it stands below.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct qemu_info_t qemu_info_t;
typedef void (*tb_trans_cb)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);
typedef void (*insn_exec_cb)(unsigned int cpu, void *userdata);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, tb_trans_cb cb);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, insn_exec_cb cb,
					    int flags, void *userdata);

int qemu_plugin_version = 1;

#define PLACES	(1u << 22)	/* of the hash table: far more than instructions seen */
#define TRACE	(1u << 21)	/* instructions of a window that are kept in order */

/* What an instruction does to the stack of calls. */
enum kind { PLAIN, CALL, RET };

/* One instruction of the guest. */
struct insn {
	uint64_t address;
	uint32_t count;		/* in this window */
	uint32_t kind;
};

static struct insn *table;
static FILE *out;
static bool active;
static unsigned int window, trace_first, trace_last;
static struct insn **touched;	/* those with a count */
static uint32_t n_touched, total;
static struct insn **trace;

static void executed(unsigned int cpu, void *userdata)
{
	struct insn *insn = userdata;

	if (!active)
		return;
	if (!insn->count++)
		touched[n_touched++] = insn;
	if (total < TRACE)
		trace[total] = insn;
	total++;
}

static void put32(uint32_t v) { fwrite(&v, sizeof(v), 1, out); }
static void put64(uint64_t v) { fwrite(&v, sizeof(v), 1, out); }

static void end_window(void)
{
	uint32_t kept = total < TRACE ? total : TRACE;

	if (window < trace_first || window > trace_last)
		kept = 0;
	put32(total);
	put32(n_touched);
	put32(kept);
	for (uint32_t i = 0; i < n_touched; i++) {
		put64(touched[i]->address);
		put32(touched[i]->count);
		touched[i]->count = 0;
	}
	for (uint32_t i = 0; i < kept; i++) {
		put64(trace[i]->address);
		put32(trace[i]->kind);
	}
	fflush(out);
	window++;
}

static void begin(unsigned int cpu, void *userdata)
{
	for (uint32_t i = 0; i < n_touched; i++)
		touched[i]->count = 0;
	n_touched = total = 0;
	active = true;
}

static void end(unsigned int cpu, void *userdata)
{
	if (active)
		end_window();
	active = false;
}

static struct insn *find(uint64_t address)
{
	uint64_t place = (address * 0x9e3779b97f4a7c15ull) >> 42;

	while (table[place].address && table[place].address != address)
		place = (place + 1) % PLACES;
	table[place].address = address;
	return &table[place];
}

static enum kind kind(const uint8_t *code, size_t size)
{
	size_t i = 0;

	while (i + 1 < size && ((code[i] & 0xf0) == 0x40 || code[i] == 0xf3 || code[i] == 0x2e ||
				code[i] == 0x3e))
		i++;		/* prefixes */
	if (code[i] == 0xe8 || (code[i] == 0xff && i + 1 < size && (code[i + 1] & 0x38) == 0x10))
		return CALL;
	if (code[i] == 0xc3 || code[i] == 0xc2)
		return RET;
	return PLAIN;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	static const uint8_t marker[7] = { 0x0f, 0x1f, 0x80, 0, 0x53, 0x4d, 0x55 };
	size_t n = qemu_plugin_tb_n_insns(tb);

	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		const uint8_t *code = qemu_plugin_insn_data(insn);
		size_t size = qemu_plugin_insn_size(insn);
		struct insn *mine = find(qemu_plugin_insn_vaddr(insn));

		mine->kind = kind(code, size);
		if (size == sizeof(marker) && !memcmp(code, marker, 3) &&
		    !memcmp(code + 4, marker + 4, 3) && (code[3] == 1 || code[3] == 2))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, code[3] == 1 ? begin : end, 0, NULL);
		else
			qemu_plugin_register_vcpu_insn_exec_cb(insn, executed, 0, mine);
	}
}

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "out=", 4))
			out = fopen(argv[i] + 4, "wb");
		else if (sscanf(argv[i], "trace=%u-%u", &trace_first, &trace_last) != 2)
			return 1;
	}
	table = calloc(PLACES, sizeof(*table));
	touched = calloc(PLACES, sizeof(*touched));
	trace = calloc(TRACE, sizeof(*trace));
	if (!out || !table || !touched || !trace)
		return 1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
