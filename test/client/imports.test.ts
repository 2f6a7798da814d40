import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

// The client runs inside other people's programs: it brings no dependency with it, the package's own other rooms
// included (types are gone once built).
test('the client imports nothing at run time but node: and its own files', () => {
  const directory = new URL('../../src/client/', import.meta.url)
  const foreign: string[] = []
  let seen = 0
  for (const file of readdirSync(directory)) {
    const source = readFileSync(new URL(file, directory), 'utf8')
    for (const [statement, isType, from] of source.matchAll(
      /^(?:import|export)\s(type\s)?[^'"]*?from\s+'([^']+)'/gm,
    )) {
      seen += 1
      if (!isType && !/^(node:|\.\/[a-z-]+\.ts$)/.test(from ?? '')) foreign.push(`${file}: ${statement}`)
    }
    if (/\bimport\s*\(|\brequire\s*\(|^import\s+'/m.test(source)) foreign.push(`${file}: loads dynamically`)
  }
  expect(foreign).toEqual([])
  expect(seen).toBeGreaterThan(20)
})
