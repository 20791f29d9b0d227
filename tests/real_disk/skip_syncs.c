/* Takes syncs out of a process, from outside of it: the negative control of tests/real_disk/run.
 *
 * SKIP_SYNCS=temporary  syncs of files that still have their temporary name do nothing: the sync of
 *                       a new file's contents before the rename that gives it its name
 * SKIP_SYNCS=named      syncs of files that have their name do nothing: those that a write under
 *                       `Always` waits for
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_skipped(int fd) {
  const char *which = getenv("SKIP_SYNCS");
  char link[64], path[PATH_MAX];
  const char *name;
  ssize_t length;

  if (which == NULL) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = '\0';
  name = strrchr(path, '/');
  if (name == NULL) return 0;
  if (strcmp(which, "temporary") == 0) return strncmp(name, "/.brasa-", 8) == 0;
  return length > 6 && strcmp(path + length - 6, ".brasa") == 0;
}

static int pass_on(const char *function, int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, function);
  return is_skipped(fd) ? 0 : real(fd);
}

int fsync(int fd) { return pass_on("fsync", fd); }
int fdatasync(int fd) { return pass_on("fdatasync", fd); }
