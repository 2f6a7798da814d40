import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { errorTable } from '../src/errors.ts'
import { apiSecret, hardhatKeys, startFlow } from './support/flow.ts'
import { skipWith } from './support/skip.ts'

const run = promisify(execFile)
const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')

/** The first code block of a language that holds `containing`. */
function block(language: string, containing: string): string {
  const blocks = [...readme.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)]
  const found = blocks.find(([, of, code]) => of === language && code!.includes(containing))
  if (found === undefined) throw new Error(`no ${language} block with ${containing} in the README`)
  return found[2]!
}

async function withAlice(use: (socketPath: string) => Promise<void>): Promise<void> {
  await using purser = await startFlow()
  const client = await purser.client()
  await client.credentials.store({
    userId: 'alice',
    apiKey: 'the-api-key',
    apiSecret: apiSecret(1),
    privateKey: hardhatKeys[0].privateKey,
  })
  await use(purser.socketPath)
}

test('its tables of settings and errors are those of the code', async () => {
  const { withTables } = (await import('../scripts/readme-tables.mjs' as string)) as {
    withTables(text: string): string
  }
  expect(withTables(readme)).toBe(readme)
})

test('every error code is in it, and no other', () => {
  const table = readme.slice(readme.indexOf('<!-- errors -->'), readme.indexOf('<!-- /errors -->'))
  const rows = [...table.matchAll(/^\| (-?\d+) \| (\w+) \|/gm)].map(([, code, type]) => [type, Number(code)])
  expect(rows).toEqual(Object.entries(errorTable).map(([type, { code }]) => [type, code]))
})

test('the bot in TypeScript runs as printed', { timeout: 30_000 }, async () => {
  // Inside the package, so that its own name resolves as it does for a consumer.
  const directory = mkdtempSync(fileURLToPath(new URL('../dist/readme-', import.meta.url)))
  try {
    const file = `${directory}/bot.ts`
    writeFileSync(file, block('ts', 'purser/client'))
    await withAlice(async (socketPath) => {
      const { stdout } = await run(process.execPath, [file], {
        env: { ...process.env, PURSER_SOCKET: socketPath },
      })
      expect(stdout).toBe('trading with API key the-api-key\n')
    })
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test('the bot in Python runs as printed', { timeout: 30_000 }, async (context) => {
  const python = await run('python3', ['--version']).catch(() => null)
  if (python === null) return skipWith(context.skip, 'python3 is not installed')
  await withAlice(async (socketPath) => {
    const { stdout } = await run('python3', ['-c', block('python', 'AF_UNIX')], {
      env: { ...process.env, PURSER_SOCKET: socketPath },
    })
    expect(stdout).toBe('the-api-key\n')
  })
})
