/* SPDX-License-Identifier: GPL-2.0 */
/* Control groups of version 2 for the tests of user-mode scheduling. */
#ifndef UMS_TEST_CGROUP2_H
#define UMS_TEST_CGROUP2_H

#include "ums_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

struct cgroup {
	char path[256];
};

/* Where the hierarchy is mounted, or is mounted now; NULL: not to be had. */
static inline const char *cgroup_root(void)
{
	static char root[128];
	char *save, *line;
	static char buf[65536];

	if (root[0])
		return root;
	if (read_text("/proc/self/mounts", buf, sizeof(buf)) < 0)
		return NULL;
	for (line = strtok_r(buf, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char dir[128], type[32];

		if (sscanf(line, "%*s %127s %31s", dir, type) == 2 &&
		    !strcmp(type, "cgroup2"))
			return strcpy(root, dir);
	}
	strcpy(root, "/tmp/ums-cgroup-XXXXXX");
	if (!mkdtemp(root) || mount("none", root, "cgroup2", 0, NULL)) {
		rmdir(root);
		root[0] = 0;
		return NULL;
	}
	return root;
}

/* Makes @name, below the root or below @parent. */
static inline int cgroup_make(struct cgroup *g, const struct cgroup *parent,
			      const char *name)
{
	const char *root = parent ? parent->path : cgroup_root();

	if (!root)
		return -ENOENT;
	snprintf(g->path, sizeof(g->path), "%.180s/%.60s", root, name);
	return mkdir(g->path, 0755) ? -errno : 0;
}

static inline int cgroup_write(const struct cgroup *g, const char *file, const char *text)
{
	char path[320];

	snprintf(path, sizeof(path), "%s/%s", g->path, file);
	return write_text(path, text);
}

static inline int cgroup_write_nr(const struct cgroup *g, const char *file, long nr)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", nr);
	return cgroup_write(g, file, text);
}

static inline int cgroup_read(const struct cgroup *g, const char *file, char *buf,
			      size_t size)
{
	char path[320];

	snprintf(path, sizeof(path), "%s/%s", g->path, file);
	return read_text(path, buf, size);
}

static inline long cgroup_read_nr(const struct cgroup *g, const char *file)
{
	char buf[64];

	return cgroup_read(g, file, buf, sizeof(buf)) > 0 ? atol(buf) : -1;
}

/* The number behind @key in a file like cgroup.events; -1: none. */
static inline long cgroup_key(const struct cgroup *g, const char *file, const char *key)
{
	char buf[4096], *p = buf;
	size_t len = strlen(key);

	if (cgroup_read(g, file, buf, sizeof(buf)) < 0)
		return -1;
	do {
		if (!strncmp(p, key, len) && p[len] == ' ')
			return atol(p + len + 1);
		p = strchr(p, '\n');
	} while (p && *++p);
	return -1;
}

/* Has the kernel this controller, for children of the root? */
static inline bool cgroup_controller(const char *name)
{
	struct cgroup root;
	char text[64];

	if (!cgroup_root())
		return false;
	snprintf(root.path, sizeof(root.path), "%s", cgroup_root());
	snprintf(text, sizeof(text), "+%s", name);
	return !cgroup_write(&root, "cgroup.subtree_control", text);
}

/* Kills who is left in it. */
static inline bool cgroup_remove(const struct cgroup *g)
{
	if (!g->path[0])
		return true;
	cgroup_write(g, "cgroup.kill", "1");
	return WAIT_FOR(!rmdir(g->path) || errno == ENOENT);
}

#endif /* UMS_TEST_CGROUP2_H */
