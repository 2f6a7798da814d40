/*
 * Stands between a daemon and its disk (LD_PRELOAD), for files directly in FAULTS_DIRECTORY:
 *  - with FAULTS_LOG, every write, truncation, sync, creation and removal, and every byte given to a socket, is appended
 *    to that file in the order they happened. What a power cut may leave of the files is computed from it (write-log.ts).
 *  - with FAULTS_CONTROL, calls fail as that file, mapped here and written by the test, says (disk-shim.ts).
 * A call is recorded before it returns, so whatever a killed process was told is in the log.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPENED = 1, WRITTEN, TRUNCATED, SYNCED, SYNC_FAILED, DIRECTORY_SYNCED, UNLINKED, ANSWERED, LINKED };

/* Mirrors disk-shim.ts. */
enum { FAULT_WRITE, FAULT_SYNC, FAULT_READ, FAULT_KINDS };
struct fault {
  int32_t error;  /* errno; 0: none */
  int32_t skip;   /* calls that still succeed */
  int32_t times;  /* calls that fail then; -1: all */
  int32_t suffix; /* 0: any file, 1: the database, 2: its WAL */
  int32_t torn;   /* write half of it before the first call that fails */
  int32_t fired;  /* calls that failed so far */
};

struct record {
  uint32_t type;
  uint32_t file;
  int64_t offset;
  uint32_t length;
  uint32_t pad;
};

#define FILES_MAX 64
static struct {
  dev_t dev;
  ino_t ino;
  int directory;
  int suffix;
} files[FILES_MAX];
static uint32_t file_count;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int ready, log_fd = -1;
static const char *directory;
static size_t directory_length;
static struct fault *faults;

static int (*real_open)(const char *, int, ...);
static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static ssize_t (*real_pread)(int, void *, size_t, off64_t);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static int (*real_fsync)(int), (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off64_t);
static int (*real_unlink)(const char *);
static int (*real_link)(const char *, const char *);

static void find_real(void) {
  if (real_unlink != NULL) return;
  real_open = dlsym(RTLD_NEXT, "open64");
  real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
  real_pread = dlsym(RTLD_NEXT, "pread64");
  real_write = dlsym(RTLD_NEXT, "write");
  real_writev = dlsym(RTLD_NEXT, "writev");
  real_fsync = dlsym(RTLD_NEXT, "fsync");
  real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
  real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
  real_link = dlsym(RTLD_NEXT, "link");
  real_unlink = dlsym(RTLD_NEXT, "unlink");
}

/* On the first file of the directory: the shell that launches the daemon, and its children, never get here. */
static void start(void) {
  if (ready) return;
  ready = 1;
  const char *log = getenv("FAULTS_LOG"), *control = getenv("FAULTS_CONTROL");
  if (log != NULL) log_fd = real_open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (control == NULL) return;
  int fd = real_open(control, O_RDWR | O_CLOEXEC);
  if (fd == -1) return;
  void *mapped = mmap(NULL, sizeof(struct fault) * FAULT_KINDS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped != MAP_FAILED) faults = mapped;
}

static void append(uint32_t type, uint32_t file, int64_t offset, const void *data, size_t length) {
  if (log_fd == -1) return;
  struct record record = {type, file, offset, (uint32_t)length, 0};
  struct iovec parts[2] = {{&record, sizeof record}, {(void *)data, length}};
  if (real_writev(log_fd, parts, 2) != (ssize_t)(sizeof record + length)) abort();
}

/* The index of an open file in `files`, -1 for one that is not watched. */
static int watched(int fd) {
  if (file_count == 0) return -1;
  struct stat64 stat;
  if (fstat64(fd, &stat) == -1) return -1;
  for (int index = (int)file_count - 1; index >= 0; index--)
    if (files[index].dev == stat.st_dev && files[index].ino == stat.st_ino) return index;
  return -1;
}

static const char *base_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash == NULL ? path : slash + 1;
}

/* Whether a canonical path is the directory (1) or lies directly in it (2). */
static int place_of(const char *path) {
  if (strncmp(path, directory, directory_length) != 0) return 0;
  if (path[directory_length] == '\0') return 1;
  return path[directory_length] == '/' && strchr(path + directory_length + 1, '/') == NULL ? 2 : 0;
}

static void opened(int fd, int created) {
  char link[32], path[PATH_MAX];
  strcpy(link, "/proc/self/fd/");
  char digits[12];
  int length = 0, rest = fd;
  do digits[length++] = (char)('0' + rest % 10);
  while ((rest /= 10) > 0);
  char *end = link + strlen(link);
  while (length > 0) *end++ = digits[--length];
  *end = '\0';
  ssize_t bytes = readlink(link, path, sizeof path - 1);
  if (bytes <= 0) return;
  path[bytes] = '\0';
  int place = place_of(path);
  if (place == 0) return;
  pthread_mutex_lock(&lock);
  start();
  struct stat64 stat;
  if (fstat64(fd, &stat) == 0 && (created || watched(fd) == -1) && file_count < FILES_MAX) {
    files[file_count].dev = stat.st_dev;
    files[file_count].ino = stat.st_ino;
    files[file_count].directory = place == 1;
    const char *name = base_name(path);
    size_t size = strlen(name);
    /* A store is made under a name that goes on behind .db. */
    files[file_count].suffix =
        size > 4 && strcmp(name + size - 4, "-wal") == 0 ? 2 : strstr(name, ".db") != NULL ? 1 : 0;
    if (place == 2) append(OPENED, file_count, created, name, size);
    file_count++;
  }
  pthread_mutex_unlock(&lock);
}

/* The errno a call is to fail with, 0 for none. */
static int failing(int kind, int file, int *torn) {
  if (faults == NULL || file == -1) return 0;
  struct fault *fault = &faults[kind];
  int error = __atomic_load_n(&fault->error, __ATOMIC_ACQUIRE);
  if (error == 0 || (fault->suffix != 0 && fault->suffix != files[file].suffix)) return 0;
  if (fault->skip > 0) {
    fault->skip--;
    return 0;
  }
  if (fault->times == 0) return 0;
  if (torn != NULL && fault->torn) {
    fault->torn = 0;
    *torn = 1;
    return 0;
  }
  if (fault->times > 0) fault->times--;
  fault->fired++;
  return error;
}

static int open_watched(const char *path, int flags, mode_t mode) {
  find_real();
  if (directory == NULL) {
    const char *name = getenv("FAULTS_DIRECTORY");
    directory = name == NULL ? "" : name;
    directory_length = strlen(directory);
  }
  int created = (flags & O_CREAT) != 0 && access(path, F_OK) == -1;
  int fd = real_open(path, flags, mode);
  if (fd != -1 && directory_length > 0) {
    int saved = errno;
    opened(fd, created);
    errno = saved;
  }
  return fd;
}

int open64(const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = va_arg(arguments, mode_t);
  va_end(arguments);
  return open_watched(path, flags, mode);
}

int open(const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = va_arg(arguments, mode_t);
  va_end(arguments);
  return open_watched(path, flags, mode);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
  find_real();
  int file = watched(fd);
  if (file == -1) return real_pwrite(fd, data, length, offset);
  pthread_mutex_lock(&lock);
  int torn = 0, error = failing(FAULT_WRITE, file, &torn);
  ssize_t written = error != 0 ? -1 : real_pwrite(fd, data, torn && length > 1 ? length / 2 : length, offset);
  if (error != 0) errno = error;
  int saved = errno;
  if (written > 0) append(WRITTEN, (uint32_t)file, offset, data, (size_t)written);
  pthread_mutex_unlock(&lock);
  errno = saved;
  return written;
}

ssize_t pread64(int fd, void *data, size_t length, off64_t offset) {
  find_real();
  int file = watched(fd);
  if (file != -1) {
    pthread_mutex_lock(&lock);
    int error = failing(FAULT_READ, file, NULL);
    pthread_mutex_unlock(&lock);
    if (error != 0) {
      errno = error;
      return -1;
    }
  }
  return real_pread(fd, data, length, offset);
}

int ftruncate64(int fd, off64_t length) {
  find_real();
  int file = watched(fd);
  if (file == -1) return real_ftruncate(fd, length);
  pthread_mutex_lock(&lock);
  int error = failing(FAULT_WRITE, file, NULL);
  int result = error != 0 ? -1 : real_ftruncate(fd, length);
  if (error != 0) errno = error;
  int saved = errno;
  if (result == 0) append(TRUNCATED, (uint32_t)file, length, NULL, 0);
  pthread_mutex_unlock(&lock);
  errno = saved;
  return result;
}

static int sync_watched(int fd, int (*real)(int)) {
  int file = watched(fd);
  if (file == -1) return real(fd);
  pthread_mutex_lock(&lock);
  int error = failing(FAULT_SYNC, file, NULL);
  int result = error != 0 ? -1 : real(fd);
  if (error != 0) errno = error;
  int saved = errno;
  if (files[file].directory) {
    if (result == 0) append(DIRECTORY_SYNCED, 0, 0, NULL, 0);
  } else
    append(result == 0 ? SYNCED : SYNC_FAILED, (uint32_t)file, 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  errno = saved;
  return result;
}

int fsync(int fd) {
  find_real();
  return sync_watched(fd, real_fsync);
}

int fdatasync(int fd) {
  find_real();
  return sync_watched(fd, real_fdatasync);
}

int unlink(const char *path) {
  find_real();
  char parent[PATH_MAX], canonical[PATH_MAX];
  int watching = 0;
  if (ready && log_fd != -1 && strlen(path) < sizeof parent && strchr(path, '/') != NULL) {
    strcpy(parent, path);
    *strrchr(parent, '/') = '\0';
    watching = realpath(parent, canonical) != NULL && place_of(canonical) == 1;
  }
  int result = real_unlink(path);
  if (watching && result == 0) {
    pthread_mutex_lock(&lock);
    append(UNLINKED, 0, 0, base_name(path), strlen(base_name(path)));
    pthread_mutex_unlock(&lock);
  }
  return result;
}

/* A new store is written under another name and linked into place. Both names lie in the directory. */
int link(const char *from, const char *to) {
  find_real();
  char parent[PATH_MAX], canonical[PATH_MAX], names[2 * PATH_MAX];
  int watching = 0;
  if (ready && log_fd != -1 && strlen(to) < sizeof parent && strchr(to, '/') != NULL) {
    strcpy(parent, to);
    *strrchr(parent, '/') = '\0';
    watching = realpath(parent, canonical) != NULL && place_of(canonical) == 1;
  }
  int result = real_link(from, to);
  if (watching && result == 0) {
    size_t length = strlen(base_name(from)) + 1;
    strcpy(names, base_name(from));
    strcpy(names + length, base_name(to));
    pthread_mutex_lock(&lock);
    append(LINKED, 0, 0, names, length + strlen(base_name(to)));
    pthread_mutex_unlock(&lock);
  }
  return result;
}

static int is_socket(int fd) {
  struct stat64 stat;
  return log_fd != -1 && fd != log_fd && fstat64(fd, &stat) == 0 && S_ISSOCK(stat.st_mode);
}

ssize_t write(int fd, const void *data, size_t length) {
  find_real();
  int file = fd == log_fd ? -1 : watched(fd);
  if (file != -1 && !files[file].directory) {
    off64_t offset = lseek64(fd, 0, SEEK_CUR);
    ssize_t written = pwrite64(fd, data, length, offset);
    if (written > 0) lseek64(fd, offset + written, SEEK_SET);
    return written;
  }
  ssize_t written = real_write(fd, data, length);
  if (written > 0 && is_socket(fd)) {
    int saved = errno;
    pthread_mutex_lock(&lock);
    append(ANSWERED, (uint32_t)fd, 0, data, (size_t)written);
    pthread_mutex_unlock(&lock);
    errno = saved;
  }
  return written;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  find_real();
  ssize_t written = real_writev(fd, parts, count);
  if (written > 0 && is_socket(fd)) {
    int saved = errno;
    size_t left = (size_t)written;
    pthread_mutex_lock(&lock);
    for (int index = 0; index < count && left > 0; index++) {
      size_t length = parts[index].iov_len < left ? parts[index].iov_len : left;
      if (length > 0) append(ANSWERED, (uint32_t)fd, 0, parts[index].iov_base, length);
      left -= length;
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
  }
  return written;
}
