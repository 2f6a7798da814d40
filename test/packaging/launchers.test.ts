import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '../..')
const nodePackage = `node-linux-${process.arch}`
let directory: string

beforeEach(() => {
  // A blank in the path: everything in the launchers must be quoted.
  directory = mkdtempSync(join(tmpdir(), 'purser launch '))
})

afterEach(() => rmSync(directory, { recursive: true, force: true }))

/** Stands in for dist/: does what its arguments say and tells how it was started. */
const entry = `
import { readFileSync } from 'node:fs'
const [act, detail] = process.argv.slice(2)
if (act === 'exit') process.exitCode = Number(detail)
if (act === 'wait') process.stdin.on('data', () => console.log('alive'))
console.log(JSON.stringify({
  entry: process.argv[1], argv: process.argv.slice(2), execPath: process.execPath, execArgv: process.execArgv,
  env: process.env, pid: process.pid, wasm: typeof WebAssembly,
  core: readFileSync('/proc/self/limits', 'utf8').match(/core file size\\s+(\\S+)\\s+(\\S+)/).slice(1),
}))
`

type Start = {
  entry: string
  argv: string[]
  execPath: string
  execArgv: string[]
  env: Record<string, string>
  pid: number
  wasm: string
  core: [string, string]
}

/** A package like ours at `at`, built unless said otherwise. */
function install(at: string, built = true): string {
  cpSync(join(root, 'bin'), join(at, 'bin'), { recursive: true })
  writeFileSync(join(at, 'package.json'), '{"name":"purser","type":"module"}')
  if (built) {
    mkdirSync(join(at, 'dist/cli'), { recursive: true })
    writeFileSync(join(at, 'dist/main.js'), entry)
    writeFileSync(join(at, 'dist/cli/main.js'), entry)
  }
  return at
}

/** The package of Node in `modules`; the file is this Node, by a link. */
function installNode(modules: string): string {
  const node = join(modules, nodePackage, 'bin/node')
  mkdirSync(dirname(node), { recursive: true })
  symlinkSync(process.execPath, node)
  return node
}

function link(at: string, target: string): string {
  mkdirSync(dirname(at), { recursive: true })
  symlinkSync(relative(dirname(at), target), at)
  return at
}

function run(file: string, argv: string[] = [], env: Record<string, string> = {}, cwd = directory) {
  const child = spawnSync(file, argv, { cwd, env: { PATH: '/usr/bin:/bin', ...env }, encoding: 'utf8' })
  return { status: child.status, stdout: child.stdout, stderr: child.stderr, error: child.error }
}

function started(
  file: string,
  argv: string[] = [],
  env: Record<string, string> = {},
  cwd = directory,
): Start {
  const outcome = run(file, argv, env, cwd)
  expect(outcome).toMatchObject({ status: 0, stderr: '' })
  return JSON.parse(outcome.stdout) as Start
}

describe('where the launchers find the package and its Node', () => {
  test('a clone', () => {
    const home = install(join(directory, 'clone'))
    installNode(join(home, 'node_modules'))
    const daemon = started(join(home, 'bin/purserd'), ['--socket', 'a b', '', '$HOME', "it's"])
    expect(daemon.entry).toBe(join(home, 'dist/main.js'))
    expect(daemon.argv).toEqual(['--socket', 'a b', '', '$HOME', "it's"])
    expect(started(join(home, 'bin/purser'), ['freeze']).entry).toBe(join(home, 'dist/cli/main.js'))
  })

  test('npm: a dependency, hoisted, and a global install', () => {
    const modules = join(directory, 'prefix/lib/node_modules')
    const home = install(join(modules, 'purser'))
    installNode(modules)
    const local = link(join(modules, '.bin/purserd'), join(home, 'bin/purserd'))
    const global = link(join(directory, 'prefix/bin/purserd'), join(home, 'bin/purserd'))
    const again = link(join(directory, 'local/bin/purserd'), global)
    const absolute = join(directory, 'absolute')
    symlinkSync(again, absolute)
    for (const file of [local, global, again, absolute]) {
      expect(started(file).entry).toBe(join(home, 'dist/main.js'))
    }
  })

  test('npm: not hoisted; its own Node goes first', () => {
    const modules = join(directory, 'node_modules')
    const home = install(join(modules, 'purser'))
    const outer = installNode(modules)
    rmSync(outer)
    writeFileSync(outer, '#!/bin/sh\nexit 3\n')
    chmodSync(outer, 0o755)
    installNode(join(home, 'node_modules'))
    started(join(home, 'bin/purserd'))
  })

  test('pnpm', () => {
    const store = join(directory, 'node_modules/.pnpm/purser@0.1.0/node_modules')
    const home = install(join(store, 'purser'))
    installNode(store)
    const linked = link(join(directory, 'node_modules/purser'), home)
    expect(started(join(linked, 'bin/purserd')).entry).toBe(join(home, 'dist/main.js'))
  })

  test('by name from PATH, by sh from the directory itself, with CDPATH set', () => {
    const home = install(join(directory, 'clone'))
    installNode(join(home, 'node_modules'))
    const bin = join(home, 'bin')
    const env = { PATH: `${bin}:/usr/bin:/bin`, CDPATH: '/' }
    expect(started('/bin/sh', ['-c', 'exec purserd'], env).entry).toBe(join(home, 'dist/main.js'))
    expect(started('/bin/sh', ['purserd'], env, bin).entry).toBe(join(home, 'dist/main.js'))
    expect(started('/bin/sh', ['bin/purser'], env, home).entry).toBe(join(home, 'dist/cli/main.js'))
    expect(started('/bin/sh', ['bin/purserd'], env, home).entry).toBe(join(home, 'dist/main.js'))
  })

  test('a Node that a packager has put beside bin/', () => {
    const home = install(join(directory, 'lib/purser'))
    symlinkSync(process.execPath, join(home, 'node'))
    started(join(home, 'bin/purserd'))
  })

  test('with no program in PATH: a sandbox allows sh and Node alone', () => {
    const home = install(join(directory, 'clone'))
    installNode(join(home, 'node_modules'))
    for (const bin of ['purser', 'purserd']) started(join(home, 'bin', bin), [], { PATH: '/nonexistent' })
  })
})

describe('what is missing', () => {
  function refused(file: string): string {
    const { status, stdout, stderr } = run(file)
    expect({ status, stdout }).toEqual({ status: 70, stdout: '' })
    expect(stderr).toMatch(/^[^\n]+\n$/)
    return stderr.trimEnd()
  }

  test('Node', () => {
    const home = install(join(directory, 'clone'))
    const advice = `Node is missing; install it with \`npm install --include=optional\` (${nodePackage}, pinned by ${home}/package.json)`
    expect(refused(join(home, 'bin/purserd'))).toBe(`purserd: ${advice}`)
    expect(refused(join(home, 'bin/purser'))).toBe(`purser: ${advice}`)
    // Neither a directory nor a file without its mode is a Node.
    mkdirSync(join(home, 'node'))
    const node = join(home, 'node_modules', nodePackage, 'bin/node')
    mkdirSync(dirname(node), { recursive: true })
    copyFileSync('/dev/null', node)
    chmodSync(node, 0o644)
    expect(refused(join(home, 'bin/purserd'))).toBe(`purserd: ${advice}`)
  })

  test('dist/', () => {
    const home = install(join(directory, 'clone'), false)
    installNode(join(home, 'node_modules'))
    const advice = (file: string) => `${file} is missing; run \`npm ci\` and \`npm run build\` in ${home}`
    expect(refused(join(home, 'bin/purserd'))).toBe(`purserd: ${advice('dist/main.js')}`)
    expect(refused(join(home, 'bin/purser'))).toBe(`purser: ${advice('dist/cli/main.js')}`)
  })
})

describe('how Node is started', () => {
  let home: string
  let node: string

  beforeEach(() => {
    home = install(join(directory, 'clone'))
    node = installNode(join(home, 'node_modules'))
  })

  const meddling = {
    NODE_OPTIONS: '--inspect=0 --no-warnings',
    NODE_PATH: '/somewhere',
    NODE_DEBUG: 'net',
    NODE_DEBUG_NATIVE: 'cares',
    NODE_V8_COVERAGE: '/nonexistent',
    NODE_COMPILE_CACHE: '/nonexistent',
    NODE_REDIRECT_WARNINGS: '/nonexistent',
    NODE_TLS_REJECT_UNAUTHORIZED: '0',
  }

  const daemonFlags = [
    '--disable-sigusr1',
    '--expose-gc',
    '--max-semi-space-size=8',
    '--no-allocation-site-pretenuring',
  ]

  test('flags, and an environment that cannot change them', () => {
    for (const bin of ['purserd', 'purser']) {
      const start = started(join(home, 'bin', bin), [], {
        ...meddling,
        GLIBC_TUNABLES: 'glibc.malloc.perturb=0',
      })
      expect(start.execPath).toBe(realpathSync(node))
      expect(start.execArgv).toEqual(bin === 'purserd' ? daemonFlags : ['--disable-sigusr1'])
      for (const variable of Object.keys(meddling)) expect(start.env).not.toHaveProperty(variable)
      expect(start.env).toMatchObject({
        GLIBC_TUNABLES: 'glibc.malloc.perturb=85:glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1',
        UV_USE_IO_URING: '0',
        LD_BIND_NOW: '1',
      })
    }
  })

  test('PURSER_JITLESS turns machine code off, for the daemon', () => {
    const bin = join(home, 'bin/purserd')
    const jitless = started(bin, ['a b'], { PURSER_JITLESS: '1' })
    expect(jitless).toMatchObject({
      execArgv: [...daemonFlags, '--jitless', '--no-memory-reducer'],
      argv: ['a b'],
      wasm: 'undefined',
    })
    expect(jitless.env).not.toHaveProperty('PURSER_JITLESS')
    for (const env of [{ PURSER_JITLESS: '0' }, { PURSER_JITLESS: '' }, {}]) {
      expect(started(bin, [], env)).toMatchObject({ execArgv: daemonFlags, wasm: 'object' })
    }
    expect(run(bin, [], { PURSER_JITLESS: 'yes' })).toMatchObject({
      status: 78,
      stderr: 'purserd: PURSER_JITLESS must be 0 or 1\n',
    })
  })

  test('no core files of the daemon from its first instruction on', () => {
    expect(started(join(home, 'bin/purserd')).core).toEqual(['0', '0'])
  })

  test('purser keeps what its caller had set, for the program that purser exec starts', () => {
    const given = {
      ...meddling,
      NODE_OPTIONS: `--title='a "b" $HOME \`id\`'\n--no-warnings`,
      GLIBC_TUNABLES: 'glibc.malloc.check=1',
      NODE_DEBUG: '',
    }
    const { env } = started(join(home, 'bin/purser'), [], given)
    const kept = Object.fromEntries(
      Object.entries(env)
        .filter(([name]) => name.startsWith('PURSER_CALLER_'))
        .map(([name, value]) => [name.slice('PURSER_CALLER_'.length), value]),
    )
    expect(kept).toEqual(given)
    const daemon = started(join(home, 'bin/purserd'), [], given)
    expect(Object.keys(daemon.env).filter((name) => name.startsWith('PURSER_'))).toEqual([])
  })

  test('exit code and signal are those of Node, which keeps the pid', async () => {
    for (const bin of ['purserd', 'purser']) {
      const file = join(home, 'bin', bin)
      expect(run(file, ['exit', '77']).status).toBe(77)
      const child = spawn(file, ['wait'], { stdio: ['pipe', 'pipe', 'inherit'] })
      const [line] = (await once(child.stdout, 'data')) as [Buffer]
      expect((JSON.parse(line.toString()) as Start).pid).toBe(child.pid)
      child.kill('SIGTERM')
      expect(await once(child, 'exit')).toEqual([null, 'SIGTERM'])
    }
  })

  test('SIGUSR1 opens no debugger and ends nothing', async () => {
    async function signalled(file: string, argv: string[]): Promise<string> {
      const child = spawn(file, argv, { stdio: 'pipe' })
      let stderr = ''
      child.stderr.on('data', (chunk: Buffer) => {
        stderr += chunk.toString()
      })
      await once(child.stdout, 'data')
      child.kill('SIGUSR1')
      // A debugger, where one opens, says so from a thread of its own.
      await new Promise((done) => setTimeout(done, 200))
      child.stdin.write('x')
      expect(String((await once(child.stdout, 'data'))[0])).toBe('alive\n')
      child.stdin.end()
      await once(child, 'exit')
      return stderr
    }
    const control = await signalled(node, ['--inspect-port=0', join(home, 'dist/main.js'), 'wait'])
    expect(control).toContain('Debugger listening')
    for (const bin of ['purserd', 'purser']) {
      expect(await signalled(join(home, 'bin', bin), ['wait'])).toBe('')
    }
  })
})

describe('what is published', () => {
  test('both bins are executable and their common part is in the package', () => {
    const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
      bin: Record<string, string>
      files: string[]
    }
    expect(manifest.bin).toEqual({ purserd: 'bin/purserd', purser: 'bin/purser' })
    expect(manifest.files).toContain('bin')
    for (const bin of Object.values(manifest.bin)) {
      expect(statSync(join(root, bin)).mode & 0o777).toBe(0o755)
      expect(readFileSync(join(root, bin), 'utf8')).toMatch(/^#!\/bin\/sh\n/)
    }
    expect(statSync(join(root, 'bin/launch.sh')).isFile()).toBe(true)
  })
})
