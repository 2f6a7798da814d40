import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { apiSecret, type CliDaemon, privateKey, startCliDaemon } from '../daemon.ts'
import { runCli } from '../run-cli.ts'

describe('purser credentials import', { timeout: 30_000 }, () => {
  let cli: CliDaemon
  let directory: string
  beforeAll(async () => {
    cli = await startCliDaemon()
    directory = mkdtempSync(join(tmpdir(), 'purser-import-'))
  })
  afterAll(async () => {
    await cli.purser.stop()
    rmSync(directory, { recursive: true, force: true })
  })

  const fileOf = (name: string, content: string): string => {
    const path = join(directory, name)
    writeFileSync(path, content)
    return path
  }

  test('stores what the file holds and says names, never values', async () => {
    const path = fileOf(
      'bot.env',
      [
        '\ufeff# my bot',
        'export POLY_API_KEY="k-import" # the key',
        `POLY_API_SECRET='${apiSecret}'`,
        'POLY_PASSPHRASE=p-import',
        `PRIVATE_KEY=${privateKey.slice(2)}`,
        `PK=${privateKey.toUpperCase().replace('0X', '0x')}`,
        'OPENAI_API_KEY=sk-other',
        'LOG_LEVEL=debug',
        '',
      ].join('\r\n'),
    )
    const result = await cli.run(['credentials', 'import', path, '--user', 'moved', '--name', 'main'])
    expect(result.code).toBe(0)
    expect(result.stdout).toMatch(/^credentialId +1$/m)
    for (const line of [
      'purser: took apiKey from POLY_API_KEY',
      'purser: took privateKey from PK',
      'purser: ignored: OPENAI_API_KEY, LOG_LEVEL',
      `purser:   2. then remove these lines from ${path}: POLY_API_KEY, POLY_API_SECRET, POLY_PASSPHRASE, PRIVATE_KEY, PK`,
      'it also holds what look like other secrets: OPENAI_API_KEY',
      'committed to git',
    ])
      expect(result.stderr).toContain(line)
    for (const secret of ['k-import', apiSecret, 'p-import', privateKey.slice(2), 'sk-other'])
      expect(result.stderr + result.stdout).not.toContain(secret)
    expect(await cli.json(['credentials', 'get', '--user', 'moved', '--yes'])).toMatchObject({
      name: 'main',
      apiKey: 'k-import',
      apiSecret,
      passphrase: 'p-import',
      privateKey,
    })
  })

  test('a file of nothing else can be deleted', async () => {
    const path = fileOf("it's all.env", `CLOB_API_KEY=k-only\nCLOB_SECRET=${apiSecret}\n`)
    const { code, stderr } = await cli.run(['credentials', 'import', path, '--user', 'only', '--sign-only'])
    expect(code).toBe(0)
    expect(stderr).toContain(`shred -u '${path.replace("'", "'\\''")}'`)
  })

  test('--dry-run asks no daemon', async () => {
    const path = fileOf('dry.env', 'POLY_API_KEY=k\nPOLY_API_SECRET=s\n')
    const args = [
      'credentials',
      'import',
      path,
      '--user',
      'x',
      '--dry-run',
      '--json',
      '--socket',
      '/nonexistent',
    ]
    const { code, stdout } = await runCli(args)
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toEqual({
      taken: [
        { field: 'apiKey', name: 'POLY_API_KEY' },
        { field: 'apiSecret', name: 'POLY_API_SECRET' },
      ],
      ignored: [],
      empty: [],
      unreadableLines: [],
    })
  })

  test.each([
    [
      'two values',
      'PK=hunter2\nPRIVATE_KEY=hunter3\nPOLY_API_KEY=k\nPOLY_SECRET=s',
      65,
      'PK (line 1) and PRIVATE_KEY (line 2)',
    ],
    ['the private key alone', 'PRIVATE_KEY=hunter2', 65, 'createOrDeriveApiKey'],
    ['no secret', 'POLY_API_KEY=hunter2', 65, 'has no apiSecret'],
    ['nothing at all', '', 65, 'has no apiKey and no apiSecret'],
    ['what the daemon does not take', 'POLY_API_KEY=k\nPOLY_SECRET=hunter2!', 64, 'apiSecret: '],
  ])('%s', async (name, content, code, message) => {
    const path = fileOf(`${name.replaceAll(' ', '-')}.env`, content)
    const result = await cli.run(['credentials', 'import', path, '--user', 'refused'])
    expect(result).toMatchObject({ code, stdout: '' })
    expect(result.stderr).toContain(message)
    expect(result.stderr).not.toMatch(/hunter/)
  })

  test('--map takes names that nobody else uses', async () => {
    const path = fileOf('map.env', `B1_KEY=k-map\nB1_SECRET=${apiSecret}\nPOLY_API_KEY=k-other\n`)
    const map = ['--map', 'apiKey=B1_KEY', '--map', 'apiSecret=B1_SECRET']
    expect((await cli.run(['credentials', 'import', path, '--user', 'map', ...map])).code).toBe(0)
    expect(await cli.json(['credentials', 'get', '--user', 'map', '--yes'])).toMatchObject({
      apiKey: 'k-map',
    })
  })

  test('a file too large, not there, or none', async () => {
    const large = fileOf('large.env', 'A=1\n'.repeat(300_000))
    for (const [path, code] of [
      [large, 65],
      [join(directory, 'nowhere'), 66],
      [directory, 66],
    ] as const)
      expect((await runCli(['credentials', 'import', path, '--user', 'x'])).code).toBe(code)
  })
})
