import { createHash, createHmac } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type AuditEntry, auditActions, chainEntry, chainHash, genesisHash } from '../../src/audit/entry.ts'
import {
  finishVerification,
  startVerification,
  type Verification,
  verifyRow,
} from '../../src/audit/verify.ts'
import type { AuditRow } from '../../src/store/operations.ts'

const mac = (hash: Buffer) => createHmac('sha256', 'the audit key').update(hash).digest()
const noKey = () => null

const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 })
const orNull = <T>(of: fc.Arbitrary<T>) => fc.option(of, { nil: null })
const entries: fc.Arbitrary<AuditEntry> = fc.record({
  action: fc.constantFrom(
    ...auditActions.filter(
      (action) => !['daemon_started', 'system_sealed', 'system_unsealed'].includes(action),
    ),
  ),
  outcome: fc.constantFrom('ok', 'denied', 'error'),
  userId: orNull(text),
  credentialId: orNull(fc.integer({ min: 1 })),
  details: fc.dictionary(text, fc.oneof(text, fc.integer(), fc.constant(null)), { maxKeys: 3 }),
  peer: orNull(
    fc.record({ uid: fc.nat(), gid: fc.nat(), pid: fc.nat(), comm: orNull(text), unit: orNull(text) }),
  ),
  client: orNull(text),
})

/** A chain of these entries with a MAC at the end of each commit. */
function chainOf(list: readonly AuditEntry[], commitOf: number): AuditRow[] {
  const rows: AuditRow[] = []
  for (const [index, entry] of list.entries()) {
    const row = chainEntry({ seq: index, hash: rows.at(-1)?.hash ?? genesisHash }, entry, 1000 + index)
    const isLast = index % commitOf === commitOf - 1 || index === list.length - 1
    rows.push(isLast ? { ...row, mac: mac(row.hash) } : row)
  }
  return rows
}

function verify(rows: readonly AuditRow[], key: (hash: Buffer) => Buffer | null = mac): Verification {
  const state = startVerification(null)
  for (const row of rows) verifyRow(state, row, key)
  return finishVerification(state, key(genesisHash) !== null)
}

const chains = fc
  .tuple(fc.array(entries, { minLength: 1, maxLength: 12 }), fc.integer({ min: 1, max: 4 }))
  .map(([list, commitOf]) => chainOf(list, commitOf))

describe('a chain', () => {
  test('holds as it was made', () => {
    fc.assert(
      fc.property(chains, (rows) => {
        expect(verify(rows)).toMatchObject({
          ok: true,
          entries: rows.length,
          headSeq: rows.length,
          headHash: rows.at(-1)!.hash,
          firstBadSeq: null,
          macChecked: true,
        })
        expect(verify(rows, noKey)).toMatchObject({ ok: true, macChecked: false })
      }),
    )
  })

  test('each hash is that of the one before and of the entry, as anyone can compute it', () => {
    const peer = { uid: 1, gid: 2, pid: 3, comm: 'c"', unit: null }
    const entry: AuditEntry = {
      action: 'user_put',
      outcome: 'ok',
      userId: 'alice',
      credentialId: 7,
      details: { tier: 'pro', ä: null },
      peer,
      client: 'x\n',
    }
    const previous = createHash('sha256').update('before').digest()
    const row = chainEntry({ seq: 41, hash: previous }, entry, 1234)
    expect(row).toMatchObject({ seq: 42, atMs: 1234, details: '{"tier":"pro","ä":null}', mac: null })
    const canonical =
      '[42,1234,"user_put","alice",7,"ok","{\\"tier\\":\\"pro\\",\\"ä\\":null}",1,2,3,"c\\"",null,"x\\n"]'
    expect(row.hash).toEqual(createHash('sha256').update(previous).update(canonical).digest())
  })

  test('begins with 32 zero bytes, and is empty before', () => {
    expect(verify([])).toMatchObject({ ok: true, entries: 0, headSeq: 0, headHash: Buffer.alloc(32) })
  })
})

/** Another value for each column. */
const others: { [Column in keyof AuditRow]: (row: AuditRow) => AuditRow[Column] } = {
  seq: ({ seq }) => seq + 1,
  atMs: ({ atMs }) => atMs + 1,
  action: ({ action }) => `${action}x`,
  userId: ({ userId }) => (userId === null ? '' : null),
  credentialId: ({ credentialId }) => (credentialId === null ? 0 : null),
  outcome: ({ outcome }) => (outcome === 'ok' ? 'denied' : 'ok'),
  details: ({ details }) => `${details} `,
  peerUid: ({ peerUid }) => (peerUid ?? -1) + 1,
  peerGid: ({ peerGid }) => (peerGid ?? -1) + 1,
  peerPid: ({ peerPid }) => (peerPid ?? -1) + 1,
  peerComm: ({ peerComm }) => (peerComm === null ? '' : null),
  peerUnit: ({ peerUnit }) => (peerUnit === null ? 'null' : null),
  client: ({ client }) => (client === null ? '' : `${client}\0`),
  hash: ({ hash }) => flipped(hash),
  mac: ({ mac: before }) => (before === null ? Buffer.alloc(32) : flipped(before)),
}

function flipped(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes)
  copy[7]! ^= 1
  return copy
}

describe('whatever is altered is found', () => {
  test.each(Object.keys(others) as (keyof AuditRow)[])('%s of any entry', (column) => {
    fc.assert(
      fc.property(chains, fc.nat(), (rows, where) => {
        const index = where % rows.length
        const row = rows[index]!
        const altered = rows.with(index, { ...row, [column]: others[column](row) })
        expect(verify(altered)).toMatchObject({ ok: false, firstBadSeq: index + 1 })
        if (column !== 'mac')
          expect(verify(altered, noKey)).toMatchObject({ ok: false, firstBadSeq: index + 1 })
      }),
    )
  })

  test('an entry left out, doubled, or two in another order', () => {
    fc.assert(
      fc.property(chains, fc.nat(), (rows, where) => {
        const index = where % rows.length
        const row = rows[index]!
        expect(verify(rows.toSpliced(index, 0, row)).ok).toBe(false)
        if (index < rows.length - 1) {
          expect(verify(rows.toSpliced(index, 1))).toMatchObject({ ok: false, firstBadSeq: index + 1 })
          const swapped = rows.with(index, rows[index + 1]!).with(index + 1, row)
          expect(verify(swapped)).toMatchObject({ ok: false, firstBadSeq: index + 1 })
        }
      }),
    )
  })

  test('a chain made anew by one without the key, whether he leaves the MACs or takes them away', () => {
    fc.assert(
      fc.property(chains, fc.nat(), fc.boolean(), (rows, where, takesAway) => {
        const index = where % rows.length
        let previous = rows[index - 1]?.hash ?? genesisHash
        const forged = rows.map((row, at) => {
          if (at < index) return row
          const made = at === index ? { ...row, client: `${row.client}x` } : row
          previous = chainHash(previous, made)
          return { ...made, hash: previous, mac: takesAway ? null : made.mac }
        })
        expect(verify(forged, noKey).ok).toBe(true)
        const found = verify(forged)
        expect(found.ok).toBe(false)
        // Where MACs were taken away, what no MAC covers begins behind the last one before it.
        expect(found.firstBadSeq).toBeLessThanOrEqual(
          rows.findIndex((row, at) => at >= index && row.mac !== null) + 1,
        )
      }),
    )
  })

  test('what was left without a MAC is not vouched for by the next start', () => {
    const put: AuditEntry = {
      action: 'user_put',
      outcome: 'ok',
      userId: 'a',
      credentialId: null,
      details: {},
      peer: null,
      client: null,
    }
    const rows = chainOf([put, put, { ...put, action: 'daemon_started' }, put], 1)
    expect(verify(rows).ok).toBe(true)
    expect(verify(rows.with(1, { ...rows[1]!, mac: null }))).toMatchObject({ ok: false, firstBadSeq: 2 })
    // Within a commit it is as it should be.
    expect(verify(rows.with(0, { ...rows[0]!, mac: null })).ok).toBe(true)
  })

  test('a tail cut off at the end of a commit: only the head tells', () => {
    fc.assert(
      fc.property(chains, fc.nat(), (rows, where) => {
        const length = 1 + (where % rows.length)
        const cut = rows.slice(0, length)
        const found = verify(cut)
        expect(found.ok).toBe(cut.at(-1)!.mac !== null)
        expect(found.headHash.equals(rows.at(-1)!.hash)).toBe(length === rows.length)
      }),
    )
  })
})

describe('while purser is sealed', () => {
  const told = (action: AuditEntry['action'], details: AuditEntry['details'] = {}): AuditEntry => ({
    ...{ action, details, outcome: 'ok', userId: null, credentialId: null, peer: null, client: null },
  })
  const put = told('user_put')
  const freeze = told('user_frozen')
  const seal = told('system_sealed', { stored: true })
  const unstored = told('system_sealed', { stored: false })
  const unseal = told('system_unsealed')
  const start = told('daemon_started', { sealed: false })
  const sealedStart = told('daemon_started', { sealed: true })

  /** A chain; entries marked true have a MAC. */
  const chain = (...list: [entry: AuditEntry, macked: boolean][]): AuditRow[] => {
    const rows: AuditRow[] = []
    for (const [entry, macked] of list) {
      const row = chainEntry({ seq: rows.length, hash: rows.at(-1)?.hash ?? genesisHash }, entry, 1)
      rows.push(macked ? { ...row, mac: mac(row.hash) } : row)
    }
    return rows
  }

  test.each<[what: string, rows: AuditRow[]]>([
    ['a seal and its unseal', chain([put, true], [seal, true], [freeze, false], [unseal, true], [put, true])],
    [
      'a seal amid its commit',
      chain([put, false], [seal, false], [freeze, true], [freeze, false], [unseal, true]),
    ],
    [
      'restarts between',
      chain([seal, true], [sealedStart, false], [freeze, false], [sealedStart, false], [unseal, true]),
    ],
    ['a start without a key', chain([put, true], [sealedStart, false], [freeze, false], [unseal, true])],
    [
      'one followed by a start with it',
      chain([put, true], [sealedStart, false], [freeze, false], [start, true]),
    ],
    ['a new store of a sealed daemon', chain([sealedStart, false], [unseal, true], [put, true])],
    [
      'an unseal and a seal in one commit',
      chain([seal, true], [unseal, false], [put, false], [seal, true], [sealedStart, false], [unseal, true]),
    ],
    ['a seal that was told of late', chain([put, true], [unstored, false], [freeze, false], [unseal, true])],
    ['the same without its unseal', chain([put, true], [unstored, false], [freeze, false], [start, true])],
    ['a refused seal', chain([put, true], [{ ...seal, outcome: 'denied' }, true], [put, true])],
    ['a refusal', chain([seal, true], [{ ...put, outcome: 'denied' }, false], [unseal, true])],
    [
      'a seal again',
      chain([sealedStart, false], [seal, false], [sealedStart, false], [seal, false], [unseal, true]),
    ],
  ])('%s: holds', (_, rows) => {
    expect(verify(rows)).toMatchObject({ ok: true, entries: rows.length })
    expect(verify(rows, noKey)).toMatchObject({ ok: true })
  })

  test.each<[what: string, firstBadSeq: number, rows: AuditRow[]]>([
    [
      'no MAC before a sealed start',
      2,
      chain([put, true], [freeze, false], [sealedStart, false], [unseal, true]),
    ],
    ['none after an unseal', 3, chain([seal, true], [unseal, true], [freeze, false], [start, true])],
    [
      'a seal in the midst of what has none',
      2,
      chain([put, true], [freeze, false], [seal, false], [start, true]),
    ],
    ['what is refused while sealed', 2, chain([seal, true], [put, false], [unseal, true])],
    [
      'the same after a sealed start',
      3,
      chain([put, true], [sealedStart, false], [put, false], [unseal, true]),
    ],
    ['a start with a key under a stored seal', 3, chain([seal, true], [freeze, false], [start, true])],
    ['the same after a sealed start', 3, chain([seal, true], [sealedStart, false], [start, true])],
    [
      'what is refused while sealed, behind a seal and an unseal that nothing vouches for',
      3,
      chain([put, true], [unstored, false], [unseal, false], [put, false], [start, true]),
    ],
    [
      'the same with a seal behind it, before a sealed start',
      3,
      chain([put, true], [seal, false], [unseal, false], [put, false], [seal, false], [sealedStart, false]),
    ],
    [
      'the same under a stored seal',
      2,
      chain([seal, true], [unseal, false], [put, false], [seal, false], [sealedStart, false], [unseal, true]),
    ],
    [
      'behind a start with a key that nothing vouches for',
      3,
      chain([put, true], [sealedStart, false], [start, false], [put, false], [start, true]),
    ],
    ['a tail with a key at hand', 3, chain([seal, true], [unseal, true], [freeze, false])],
  ])('%s: bad', (_, firstBadSeq, rows) => {
    expect(verify(rows)).toMatchObject({ ok: false, firstBadSeq })
  })

  test('a tail that tells of a seal may lack its MAC: it was sealed while it was verified', () => {
    expect(verify(chain([put, true], [seal, false]))).toMatchObject({ ok: true })
  })
})

test('from an anchor on, which is taken as it is', () => {
  fc.assert(
    fc.property(chains, fc.nat(), (rows, where) => {
      const index = where % rows.length
      const state = startVerification(rows[index]!)
      for (const row of rows.slice(index + 1)) verifyRow(state, row, mac)
      expect(finishVerification(state, true)).toMatchObject({
        ok: true,
        entries: rows.length - index - 1,
        headSeq: rows.length,
        headHash: rows.at(-1)!.hash,
      })
      // Behind another one it does not hold.
      if (index === rows.length - 1) return
      const wrong = startVerification({ seq: index + 1, hash: flipped(rows[index]!.hash) })
      verifyRow(wrong, rows[index + 1]!, mac)
      expect(wrong).toMatchObject({ ok: false, firstBadSeq: index + 2 })
    }),
  )
})
