import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '../..')
const modules = join(root, 'node_modules')

/** Installing 60 packages from npm's cache takes 5 s on 2 cores, from the registry a minute on a slow line. */
const installTimeoutMs = 180_000
/** A program that hangs fails here and not as a test that was given up. */
const runTimeoutMs = 25_000

let directory: string
let tarball: string
let project: string
/** Why nothing could be installed, where that is no fault of the package. */
let offline: string | null = null

/** The environment of somebody else's shell: no script of ours has put its Node, nor npm its settings, into it. */
function outside(): Record<string, string | undefined> {
  const kept = /^npm_(?!config_(registry|cache|userconfig|globalconfig|cafile|ca|proxy|https_proxy)$)/i
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !kept.test(name)))
  const path = (process.env['PATH'] ?? '').split(delimiter).filter((entry) => !entry.includes('node_modules'))
  return { ...env, PATH: path.join(delimiter), NODE_OPTIONS: undefined }
}

function run(
  command: string,
  args: string[],
  cwd: string,
): { status: number | null; out: string; err: string } {
  const child = spawnSync(command, args, { cwd, env: outside(), encoding: 'utf8', timeout: runTimeoutMs })
  if (child.error !== undefined) throw child.error
  return { status: child.status, out: child.stdout, err: child.stderr }
}

async function npm(args: string[], cwd: string): Promise<void> {
  const child = spawn('npm', args, { cwd, env: outside(), stdio: ['ignore', 'ignore', 'pipe'] })
  let err = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text
  })
  const [status] = (await once(child, 'close')) as [number | null]
  if (status === 0) return
  if (!/\b(ENOTCACHED|EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ENETUNREACH|ETIMEDOUT)\b/.test(err)) {
    throw new Error(`npm ${args.join(' ')} exited with ${status}:\n${err}`)
  }
  offline = `npm cannot reach the registry: ${err.split('\n', 1)[0]}`
}

const installFlags = ['--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error']

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'purser-consumer-'))
  // As committed, built anew: what an old build has left in dist/ here would be packed too.
  const clone = join(directory, 'clone')
  mkdirSync(clone)
  const parts = [
    'bin',
    'src',
    'systemd',
    'schema.sql',
    'README.md',
    'package.json',
    '.npmrc',
    'tsconfig.json',
    'tsconfig.build.json',
  ]
  for (const part of parts) {
    if (existsSync(join(root, part))) cpSync(join(root, part), join(clone, part), { recursive: true })
  }
  symlinkSync(modules, join(clone, 'node_modules'))
  await npm(['run', 'pack', '--', '--pack-destination', directory], clone)
  tarball = join(directory, readdirSync(directory).find((name) => name.endsWith('.tgz'))!)
  project = join(directory, 'bot')
  mkdirSync(project)
  writeFileSync(
    join(project, 'package.json'),
    '{"name":"bot","version":"1.0.0","private":true,"type":"module"}',
  )
  const global = ['--global', '--prefix', join(directory, 'global')]
  await Promise.all([
    npm(['install', ...installFlags, tarball], project),
    npm(['install', ...global, ...installFlags, tarball], directory),
  ])
}, installTimeoutMs)

afterAll(() => rmSync(directory, { recursive: true, force: true }))

function needsInstall(skip: (note: string) => void): void {
  if (offline === null) return
  console.warn(`skipped: ${offline}`)
  skip(offline)
}

describe('the tarball', () => {
  test('holds what is built and what runs it, and nothing else', () => {
    const names = execFileSync('tar', ['-tzf', tarball], { encoding: 'utf8' })
      .trim()
      .split('\n')
      .map((name) => name.replace(/^package\//, ''))
    const built = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'))
      .flatMap((name) => ['.js', '.d.ts'].map((end) => `dist/${name.replace(/\.ts$/, end)}`))
    const units = readdirSync(join(root, 'systemd'), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    const rest = ['bin/launch.sh', 'bin/purser', 'bin/purserd', 'schema.sql', 'package.json', 'README.md']
    const licence = names.filter((name) => name === 'LICENSE')
    expect(names.sort()).toEqual([...built, ...units, ...rest, ...licence].sort())
  })

  test('has bins that may be run, by everybody', () => {
    const listed = execFileSync('tar', ['-tvzf', tarball], { encoding: 'utf8' })
    for (const bin of ['purser', 'purserd'])
      expect(listed).toMatch(new RegExp(`^-rwxr-xr-x .* package/bin/${bin}$`, 'm'))
  })
})

const bot = `
import { connect, PurserError } from 'purser/client'
import { startPurser } from 'purser/testing'

const purser = await startPurser({ fastKdf: true })
try {
  const client = await connect({ socketPath: purser.socketPath })
  await client.credentials.store({ userId: 'alice', apiKey: 'key', apiSecret: 'c2VjcmV0' })
  const { apiKey, apiSecret } = await client.credentials.retrieve({ userId: 'alice' })
  const missing = await client.credentials.retrieve({ userId: 'bob' }).catch((error) => error)
  await client.close()
  console.log(JSON.stringify({
    node: process.version, apiKey, apiSecret, missing: missing instanceof PurserError && missing.type,
    daemon: purser.ready.version,
  }))
} finally {
  await purser.stop()
}
`

const typed = `
import { connect, type PurserClient } from 'purser/client'
import { startPurser } from 'purser/testing'

const purser = await startPurser({ fastKdf: true })
const client: PurserClient = await connect({ socketPath: purser.socketPath })
const { apiSecret } = await client.credentials.retrieve({ userId: 'alice' })
export const text: string = apiSecret
// @ts-expect-error a user id is no object
await client.credentials.retrieve({ userId: {} })
`

describe("another project's dependency", () => {
  test('the bins run, on the pinned Node whatever the machine has', ({ skip }) => {
    needsInstall(skip)
    const { version } = JSON.parse(
      execFileSync('tar', ['-xzOf', tarball, 'package/package.json'], { encoding: 'utf8' }),
    )
    for (const at of [join(project, 'node_modules/.bin'), join(directory, 'global/bin')]) {
      expect(run(join(at, 'purserd'), ['--version'], project)).toEqual({
        status: 0,
        out: `purserd ${version}\n`,
        err: '',
      })
      expect(run(join(at, 'purser'), ['--version'], project)).toMatchObject({ status: 0, err: '' })
      expect(run(join(at, 'purserd'), ['--frobnicate'], project).status).toBe(64)
    }
  })

  test.for(["the machine's own Node", 'the Node that comes with purser'])(
    'client and testing, on %s',
    (which, { skip }) => {
      needsInstall(skip)
      writeFileSync(join(project, 'bot.mjs'), bot)
      const node = which === "the machine's own Node" ? 'node' : join(project, 'node_modules/.bin/node')
      const { status, out, err } = run(node, ['bot.mjs'], project)
      expect({ status, err }).toEqual({ status: 0, err: '' })
      const told = JSON.parse(out) as { node: string }
      expect(told).toMatchObject({ apiKey: 'key', apiSecret: 'c2VjcmV0', missing: 'NotFound' })
      console.info(`client and testing run on Node ${told.node}`)
    },
  )

  test('what is not exported stays inside', ({ skip }) => {
    needsInstall(skip)
    const inside = `import('purser/dist/daemon.js').catch((error) => console.log(error.code))`
    expect(run('node', ['-e', inside], project).out).toBe('ERR_PACKAGE_PATH_NOT_EXPORTED\n')
  })

  test.for(['--module NodeNext', '--module ESNext --moduleResolution bundler'])(
    'its types, with %s',
    (how, { skip }) => {
      needsInstall(skip)
      writeFileSync(join(project, 'bot.ts'), typed)
      const args = [
        '--ignoreConfig',
        '--noEmit',
        '--strict',
        '--target',
        'ES2022',
        '--lib',
        'ES2024,ESNext.Disposable',
      ]
      const types = ['--types', 'node', '--typeRoots', join(modules, '@types')]
      expect(
        run(join(modules, '.bin/tsc'), [...args, ...types, ...how.split(' '), 'bot.ts'], project),
      ).toEqual({
        status: 0,
        out: '',
        err: '',
      })
    },
  )
})
