import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { skipWith } from '../support/skip.ts'
import { cleanUp, Purserd, refusal, root, temporaryDirectory } from './purserd.ts'

cleanUp()

let home: string

beforeEach(() => {
  home = temporaryDirectory()
})

/** Something a line must never show: whoever mistypes a flag or a setting may have pasted a key there. */
const secret = 'c2VjcmV0LXRoYXQtbXVzdC1uZXZlci1zaG93LXVw'

describe('usage is 64', () => {
  test.each([
    [['--frobnicate'], /^unknown flag --frobnicate; usage: purserd /],
    [['--data-dir'], /^--data-dir needs a value; /],
    [['--socket', '--sealed'], /^--socket needs a value; /],
    [['--sealed=yes'], /^--sealed takes no value; /],
    [[secret], /^purserd takes flags only/],
    [[`--${secret}/+=`], /^unknown flag; /],
    [['-x'], /^unknown flag -x; /],
  ])('%j', async (args, line) => {
    const told = await refusal(64, args, home)
    expect(told).toMatch(line)
    expect(told).not.toContain(secret)
    expect(readdirSync(home)).toEqual([])
  })
})

describe('bad configuration is 78', () => {
  test.each([
    ['cache.ttl_seconds = 5\ncache.ttl = 1\n', 'unknown key cache.ttl (line 2 of FILE)'],
    ['[decrypt]\n\nlimit = "many"\n', 'bad value for decrypt.limit (line 3 of FILE)'],
    [`[key]\nfile = 5\n`, 'bad value for key.file (line 2 of FILE)'],
    [`[tiers.free]\ndaily = -1\n`, 'bad value for tiers.free.daily (line 2 of FILE)'],
    [`[tiers.vip]\ndaily = 1\n`, 'tiers.vip (line 1 of FILE) lacks per_trade and exposure'],
    [`[log]\nlevel = "${secret}"\n`, 'bad value for log.level (line 2 of FILE)'],
    [`\nsocket = { path = \n`, 'line 2 of FILE is not valid TOML'],
    [`socket.path = "/${'x'.repeat(120)}"`, 'the socket path from socket.path (line 1 of FILE) is too long'],
  ])('in a file: %j', async (toml, text) => {
    const file = join(home, 'settings.toml')
    writeFileSync(file, toml)
    const told = await refusal(78, ['--config', file, '--data-dir', join(home, 'd')], home)
    expect(told).toContain(text.replace('FILE', file))
    expect(told).not.toContain(secret)
    expect(readdirSync(home)).toEqual(['settings.toml'])
  })

  test.each([
    [{ PURSER_CACHE_TTL_SECONDS: 'soon' }, 'bad value for PURSER_CACHE_TTL_SECONDS: must be a whole number'],
    [{ PURSER_LOG_LEVEL: secret }, 'bad value for PURSER_LOG_LEVEL: must be one of'],
    [{ PURSER_SOCKET_MODE: '0777' }, 'bad value for PURSER_SOCKET_MODE: must be an octal string'],
    [{ PURSER_TIERS_FREE_DAILY: 'lots' }, 'bad value for PURSER_TIERS_FREE_DAILY: must be dollars'],
    [{ PURSER_SOCKET: `/${'s'.repeat(107)}` }, 'PURSER_SOCKET is too long: 108 bytes, at most 107'],
    [{ WATCHDOG_USEC: 'often' }, 'WATCHDOG_USEC is not a number of microseconds'],
    [{ HOME: 'relative' }, 'HOME or XDG_DATA_HOME is not an absolute path'],
  ])('in the environment: %j', async (env, text) => {
    const told = await refusal(78, [], home, { env })
    expect(told).toContain(text)
    expect(told).not.toContain(secret)
    expect(readdirSync(home)).toEqual([])
  })

  test('in a flag: a value, a path that is too long, a settings file that is not there', async () => {
    expect(await refusal(78, ['--log-level', secret], home)).toMatch(/^bad value for --log-level: must be/)
    const long = `/${'s'.repeat(107)}`
    expect(await refusal(78, ['--socket', long], home)).toContain('from --socket is too long: 108 bytes')
    const admin = ['--socket', join(home, 's'), '--admin-socket']
    expect(await refusal(78, [...admin, long], home)).toContain('from --admin-socket is too long')
    expect(await refusal(78, [...admin, join(home, 's')], home)).toContain('is the socket itself')
    const none = join(home, 'none.toml')
    expect(await refusal(78, ['--config', none], home)).toContain(`settings file ${none} does not exist`)
    expect(await refusal(78, ['--config', home], home)).toContain(`${home} is not a regular file`)
    expect(readdirSync(home)).toEqual([])
  })

  test('a default socket path that is too long names no flag that was not given', async () => {
    const data = join(home, 'd'.repeat(100))
    expect(await refusal(78, ['--data-dir', data], home)).toContain('the socket path from the default')
  })
})

describe('what cannot be run is 70', () => {
  test("the machine's own Node, where it is older", async ({ skip }) => {
    const older = ['/usr/bin/node', '/usr/local/bin/node', ...(process.env['PATH'] ?? '').split(':')]
      .map((place) => (place.endsWith('node') ? place : join(place, 'node')))
      .find((node) => {
        const { stdout } = spawnSync(node, ['-p', 'process.versions.node'], { encoding: 'utf8' })
        return stdout !== null && stdout !== undefined && Number(stdout.split('.')[0]) < 24 && stdout !== ''
      })
    if (older === undefined) return skipWith(skip, 'no Node below 24 on this machine')
    const told = await refusal(70, [join(root, 'dist/main.js')], home, { command: older })
    expect(told).toMatch(/^this is Node \d+\.\d+\.\d+, it needs 24; start it by bin\/purserd/)
  })

  test('a package that is not whole: built, but without what it depends on', async () => {
    const copy = join(home, 'copy')
    for (const part of ['bin', 'dist', 'package.json'])
      cpSync(join(root, part), join(copy, part), { recursive: true })
    const pinned = `node-linux-${process.arch}`
    mkdirSync(join(copy, 'node_modules'))
    symlinkSync(join(root, 'node_modules', pinned), join(copy, 'node_modules', pinned))
    const told = await refusal(70, [], home, { command: join(copy, 'bin/purserd') })
    expect(told).toMatch(/^cannot be loaded: Cannot find package '[^']+' imported from /)
  })

  test('an error that nobody foresaw: one line with its place, and the end', async () => {
    const copy = join(home, 'thrower.mjs')
    writeFileSync(
      copy,
      `import { run } from ${JSON.stringify(join(root, 'dist/run.js'))}
       setTimeout(() => { throw new Error('two\\nlines') }, 50)
       process.exitCode = await run(['--data-dir', ${JSON.stringify(join(home, 'd'))}, '--log-level', 'silent'])`,
    )
    const purserd = new Purserd([copy], home, { command: process.execPath })
    const { code, stderr } = await purserd.ended
    expect({ code, stderr }).toEqual({
      code: 70,
      stderr: 'purserd: unforeseen: two lines (thrower.mjs:2); report this with the log\n',
    })
  })
})
