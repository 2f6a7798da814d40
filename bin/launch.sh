# Read by purser and purserd, which have set `package` to the directory of the package. Only builtins of sh are used,
# so that under systemd sh is the one program besides Node that may run.

command=${self##*/}

# fail CODE TEXT: one line that says what to do.
fail() {
  printf '%s: %s\n' "$command" "$2" >&2
  exit "$1"
}

# Sets `node`: the pinned one, in a node_modules of the package or of a directory above it (an installed package lies
# in one itself); else one that a packager has put beside bin/. A dynamic loader that is there tells the
# architecture and that libc is glibc, which uname does not; npm installs only the package that fits.
find_node() {
  node='' loaders=''
  for pair in x64:/lib64/ld-linux-x86-64.so.2 arm64:/lib/ld-linux-aarch64.so.1; do
    [ -e "${pair#*:}" ] || continue
    loaders=${pair%%:*}
    directory=$package
    while :; do
      node=$directory/node_modules/node-linux-${pair%%:*}/bin/node
      [ ! -f "$node" ] || [ ! -x "$node" ] || return 0
      [ -n "$directory" ] || break
      directory=${directory%/*}
    done
  done
  [ -n "$loaders" ] || fail 70 'needs Linux with glibc on x64 or arm64; on musl (Alpine) use a Debian image'
  node=$package/node
  [ -f "$node" ] && [ -x "$node" ] ||
    fail 70 "Node is missing; install it with \`npm install --include=optional\` (node-linux-$loaders, pinned by $package/package.json)"
}

# refuse_unless_started_as_built ENTRY: sets `entry`, a file below dist/, and `node`.
refuse_unless_started_as_built() {
  entry=$package/dist/$1
  [ -f "$entry" ] || fail 70 "dist/$1 is missing; run \`npm ci\` and \`npm run build\` in $package"
  find_node
}

# What would change how Node runs, load code, write files, open a debugger or turn TLS verification off.
node_variables='NODE_OPTIONS NODE_PATH NODE_DEBUG NODE_DEBUG_NATIVE NODE_V8_COVERAGE NODE_INSPECT_RESUME_ON_START
  NODE_COMPILE_CACHE NODE_COMPILE_CACHE_PORTABLE NODE_REDIRECT_WARNINGS NODE_PENDING_DEPRECATION
  NODE_TLS_REJECT_UNAUTHORIZED NODE_ICU_DATA NODE_PRESERVE_SYMLINKS NODE_PRESERVE_SYMLINKS_MAIN'
allocator_variables='GLIBC_TUNABLES UV_USE_IO_URING LD_BIND_NOW'

# glibc overwrites what is freed (without tcache, which perturb does not reach), so fragments of a secret do not stay;
# libuv keeps from io_uring, which a sandbox forbids; symbols are bound at the start, for binding one lazily saves the
# registers of that moment, a derived key among them, on a thread's stack. One arena and not
# one a thread, each of which would keep the 19 MiB of its last derivation; given back to the kernel instead (by a fixed
# mmap_threshold) they cost every derivation 9 ms of page faults.
set_allocator() {
  export GLIBC_TUNABLES=glibc.malloc.perturb=85:glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1
  export UV_USE_IO_URING=0
  export LD_BIND_NOW=1
}
