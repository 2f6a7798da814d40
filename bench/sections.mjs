import { randomBytes } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import argon2 from 'argon2'
import { authorisationUs } from './authorisation.mjs'
import { fill } from './fill.mjs'
import { inDirectory, load, rss, startDaemon, startFloor, stop } from './processes.mjs'
import { connect, credential } from './rpc.mjs'

const users = 64
/** Settings that keep a limit from ending a bench. */
const unlimited = { PURSER_DECRYPT_LIMIT: '100000' }

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]
const ratio = (value) => Number(value.toFixed(3))
const request = (method, params) => ({ jsonrpc: '2.0', id: 1, method, params })
const userOf = (index) => `user${index}`

/** A daemon with one opened credential for each user, and the length of a retrieve's answer. */
async function withUsers(environment, use) {
  await inDirectory(async (directory) => {
    const daemon = await startDaemon(directory, { ...unlimited, ...environment })
    const client = connect(daemon.socket)
    try {
      let answerLength = 0
      for (let index = 0; index < users; index++) {
        await client.call('credentials.store', { userId: userOf(index), name: 'bench', ...credential(index) })
        ;({ bytes: answerLength } = await client.call('credentials.retrieve', { userId: userOf(index) }))
      }
      await use({ directory, daemon, client, answerLength })
    } finally {
      client.close()
      await stop(daemon.child)
    }
  })
}

const retrieves = Array.from({ length: users }, (_, index) =>
  request('credentials.retrieve', { userId: userOf(index) }),
)

/** Cached retrieves against the floor, in turn, so that both see the same weather. */
async function cached(options, flags = [], environment = {}) {
  const rows = []
  const mode = flags.length > 0 ? ', jitless' : ''
  await withUsers(environment, async ({ directory, daemon, answerLength }) => {
    const floor = await startFloor(directory, answerLength, flags)
    for (const connections of [64, 1]) {
      const pairs = []
      for (let round = 0; round < options.rounds; round++) {
        const base = await load(floor.socket, { connections, seconds: options.seconds, requests: retrieves })
        const ours = await load(daemon.socket, { connections, seconds: options.seconds, requests: retrieves })
        if (ours.errors > 0) throw new Error(`${ours.errors} retrieves failed`)
        pairs.push({ base, ours })
      }
      const of = (pick) => median(pairs.map(pick))
      rows.push({
        what: `cached retrieve, ${connections} connections${mode}`,
        'purser/s': Math.round(of(({ ours }) => ours.perSecond)),
        'floor/s': Math.round(of(({ base }) => base.perSecond)),
        ratio: ratio(of(({ base, ours }) => ours.perSecond / base.perSecond)),
        bar: connections === 64 ? '>= 0.6' : '>= 0.75',
        'p50 us': of(({ ours }) => ours.p50),
        'p99 us': of(({ ours }) => ours.p99),
        samples: pairs.reduce((sum, { ours }) => sum + ours.answers, 0),
      })
    }
    await stop(floor.child)
  })
  return rows
}

/** What it costs a cached retrieve that a client asks for it, and not an admin by its uid, who needs no entry. */
async function authorisation({ seconds, rounds }) {
  const rows = []
  await withUsers({}, async ({ daemon, client }) => {
    const users = retrieves.map(({ params }) => params.userId)
    const scopes = ['credentials:read']
    const { result } = await client.call('clients.add', { name: 'bench', token: true, users, scopes })
    const options = { connections: 64, seconds, requests: retrieves }
    const pairs = []
    for (let round = 0; round < rounds; round++) {
      const base = await load(daemon.socket, options)
      const ours = await load(daemon.socket, { ...options, token: result.token })
      if (ours.errors > 0) throw new Error(`${ours.errors} retrieves failed`)
      pairs.push({ base, ours })
    }
    const of = (pick) => median(pairs.map(pick))
    rows.push({
      what: 'cached retrieve by a client / by an admin, 64 connections',
      'purser/s': Math.round(of(({ ours }) => ours.perSecond)),
      'floor/s': Math.round(of(({ base }) => base.perSecond)),
      ratio: ratio(of(({ base, ours }) => ours.perSecond / base.perSecond)),
      samples: pairs.reduce((sum, { ours }) => sum + ours.answers, 0),
    })
    // When the request comes, and again at its place in the commit.
    const looksUs = 2 * authorisationUs()
    const retrieveUs = 1e6 / of(({ ours }) => ours.perSecond)
    rows.push({
      what: "authorisation's share of a cached retrieve",
      'purser us': ratio(looksUs),
      'floor us': ratio(retrieveUs),
      ratio: ratio(looksUs / retrieveUs),
      samples: 1_000_000,
    })
  })
  return rows
}

/** Cold retrieves, one after the other, against one bare Argon2id of the same cost. */
async function cold({ rounds }) {
  const samples = 20 * rounds
  const timings = { ours: [], base: [] }
  await withUsers({ PURSER_CACHE_TTL_SECONDS: '0' }, async ({ client }) => {
    const cost = {
      raw: true,
      type: argon2.argon2id,
      memoryCost: 19_456,
      timeCost: 2,
      parallelism: 1,
      hashLength: 32,
    }
    for (let index = 0; index < samples; index++) {
      let from = performance.now()
      await argon2.hash(Buffer.alloc(0), { ...cost, secret: randomBytes(32), salt: randomBytes(16) })
      timings.base.push(performance.now() - from)
      from = performance.now()
      await client.call('credentials.retrieve', { userId: userOf(index % users) })
      timings.ours.push(performance.now() - from)
    }
  })
  const [ours, base] = [median(timings.ours), median(timings.base)]
  return [
    {
      what: 'cold retrieve / bare Argon2id',
      'purser ms': ratio(ours),
      'floor ms': ratio(base),
      ratio: ratio(ours / base),
      bar: '<= 1.15',
      samples,
    },
  ]
}

/** The p99 of cached retrieves while 64 other users are opened cold, against the same in quiet. */
async function coldBeside({ seconds, rounds }) {
  const rows = []
  await withUsers({ PURSER_CACHE_MAX_ENTRIES: '8' }, async ({ daemon, client }) => {
    const hot = retrieves.slice(0, 4)
    const pairs = []
    for (let round = 0; round < rounds; round++) {
      const options = { connections: 4, seconds, requests: hot, warmUp: 1 }
      const quiet = await load(daemon.socket, options)
      const loud = load(daemon.socket, options)
      await sleep(1000)
      const until = performance.now() + seconds * 1000
      while (performance.now() < until) {
        await Promise.all(
          Array.from({ length: 60 }, (_, index) =>
            client.call('credentials.retrieve', { userId: userOf(4 + index) }),
          ),
        )
      }
      pairs.push({ quiet, loud: await loud })
    }
    rows.push({
      what: 'cached p99 while 60 users are opened cold / quiet',
      'purser us': median(pairs.map(({ loud }) => loud.p99)),
      'floor us': median(pairs.map(({ quiet }) => quiet.p99)),
      ratio: ratio(median(pairs.map(({ quiet, loud }) => loud.p99 / quiet.p99))),
      bar: '<= 5, max < 50 ms',
      'max us': median(pairs.map(({ loud }) => loud.max)),
      samples: pairs.reduce((sum, { loud }) => sum + loud.answers, 0),
    })
  })
  return rows
}

/** Reserves on one limit, alone and with their captures, against the same floor and one commit a request. */
async function spend({ seconds, rounds }) {
  const rows = []
  await inDirectory(async (directory) => {
    const daemon = await startDaemon(directory)
    const client = connect(daemon.socket)
    const limit = '1000000000000'
    const limits = { perTradeUsd: limit, dailyUsd: limit, exposureUsd: limit }
    await client.call('users.put', { userId: 'bench', limits })
    await client.call('credentials.store', { userId: 'bench', dailySpendLimitUsd: limit, ...credential(0) })
    const reserve = request('spend.reserve', { userId: 'bench', amountUsd: '0.01', ttlSeconds: 3600 })
    const capture = request('spend.capture', { reservationId: '', amountUsd: '0.01' })
    const { bytes } = await client.call('spend.reserve', reserve.params)
    client.close()
    await inDirectory(async (single) => {
      const floor = await startFloor(directory, bytes)
      const one = await startFloor(single, bytes, [], 'single')
      for (const connections of [64, 1]) {
        const measured = []
        for (let round = 0; round < rounds; round++) {
          const options = { connections, seconds, requests: [reserve] }
          const base = await load(floor.socket, options)
          const slow = await load(one.socket, options)
          const ours = await load(daemon.socket, options)
          const both = await load(daemon.socket, { ...options, requests: [{ cycle: [reserve, capture] }] })
          if (ours.errors + both.errors > 0)
            throw new Error(`${ours.errors + both.errors} reserves or captures failed`)
          measured.push({ base, slow, ours, both })
        }
        const of = (pick) => median(measured.map(pick))
        const row = (what, name, over, bar) => ({
          what: `${what}, ${connections} connections`,
          'purser/s': Math.round(of((m) => m[name].perSecond)),
          'floor/s': Math.round(of((m) => m[over].perSecond)),
          ratio: ratio(of((m) => m[name].perSecond / m[over].perSecond)),
          bar,
          'p50 us': of((m) => m[name].p50),
          'p99 us': of((m) => m[name].p99),
          samples: measured.reduce((sum, m) => sum + m[name].answers, 0),
        })
        rows.push(row('spend.reserve / floor', 'ours', 'base', ''))
        rows.push(row('reserve + capture / floor', 'both', 'base', connections === 64 ? '>= 0.4' : ''))
        rows.push(
          row('reserve + capture / one commit a request', 'both', 'slow', connections === 64 ? '>= 10' : ''),
        )
      }
      await stop(one.child)
      await stop(floor.child)
    })
    await stop(daemon.child)
  })
  return rows
}

/** What a transaction as a generator costs over calling the statements straight, in process and without a commit. */
async function seam({ rounds }) {
  const { measureSeam } = await import('./seam.mjs')
  return await inDirectory((directory) => measureSeam(directory, rounds))
}

/** Start and retrieve with a million credentials in the store against an empty one and one of a thousand. */
async function million({ seconds }) {
  const figures = {}
  for (const [name, rows] of [
    ['empty', 0],
    ['thousand', 1000],
    ['million', 1_000_000],
  ]) {
    await inDirectory(async (directory) => {
      let daemon = await startDaemon(directory, unlimited)
      const client = connect(daemon.socket)
      for (let index = 0; index < users; index++) {
        await client.call('credentials.store', { userId: userOf(index), name: 'bench', ...credential(index) })
      }
      client.close()
      await stop(daemon.child)
      fill(directory, rows)
      const starts = []
      for (let start = 0; start < 5; start++) {
        const from = performance.now()
        daemon = await startDaemon(directory, unlimited)
        starts.push(performance.now() - from)
        if (start < 4) await stop(daemon.child)
      }
      const warm = connect(daemon.socket)
      for (let index = 0; index < users; index++)
        await warm.call('credentials.retrieve', { userId: userOf(index) })
      warm.close()
      const loaded =
        rows === 0 ? null : await load(daemon.socket, { connections: 64, seconds, requests: retrieves })
      figures[name] = { startMs: median(starts), loaded }
      await stop(daemon.child)
    })
  }
  const { empty, thousand, million: full } = figures
  return [
    {
      what: 'start with 1,000,000 credentials / empty',
      'purser ms': Math.round(full.startMs),
      'floor ms': Math.round(empty.startMs),
      ratio: ratio(full.startMs / empty.startMs),
      bar: '< 1.5 x + 200 ms',
      samples: 5,
    },
    {
      what: 'time of a retrieve at 1,000,000 / at 1,000',
      'purser/s': Math.round(full.loaded.perSecond),
      'floor/s': Math.round(thousand.loaded.perSecond),
      ratio: ratio(thousand.loaded.perSecond / full.loaded.perSecond),
      bar: '<= 1.2',
      samples: full.loaded.answers + thousand.loaded.answers,
    },
  ]
}

/** Resident memory idle, and after a million requests. */
async function memory() {
  const rows = []
  await inDirectory(async (directory) => {
    const daemon = await startDaemon(directory, unlimited)
    await sleep(1000)
    rows.push({ what: 'resident memory idle, MiB', purser: rss(daemon.child.pid), bar: '< 120', samples: 1 })
    await stop(daemon.child)
  })
  await withUsers({}, async ({ daemon }) => {
    let warm = 0
    let last = 0
    let answers = 0
    while (answers < 1_000_000) {
      answers += (await load(daemon.socket, { connections: 64, seconds: 4, requests: retrieves })).answers
      last = rss(daemon.child.pid)
      if (warm === 0 && answers >= 100_000) warm = last
    }
    rows.push({
      what: 'resident memory after 1,000,000 requests / after 100,000, MiB',
      purser: last,
      floor: warm,
      ratio: ratio(last / warm),
      bar: '<= 1.05',
      samples: answers,
    })
  })
  return rows
}

/** Bare Argon2id a second at the default cost, one on every core at a time. */
async function bareDerivations(seconds) {
  const cost = { raw: true, type: argon2.argon2id, memoryCost: 19_456, timeCost: 2, parallelism: 1 }
  let done = 0
  const from = performance.now()
  const worker = async () => {
    while (performance.now() - from < seconds * 1000) {
      await argon2.hash(Buffer.alloc(0), {
        ...cost,
        hashLength: 32,
        secret: randomBytes(32),
        salt: randomBytes(16),
      })
      done++
    }
  }
  await Promise.all(Array.from({ length: availableParallelism() }, worker))
  return (1000 * done) / (performance.now() - from)
}

/** Waits for the job's end, and the retirement of the old key, without which there is no next rotation. */
async function rotated(client) {
  for (;;) {
    const { result } = await client.call('master.status')
    if (result.job.state === 'failed') throw new Error('the rotation failed')
    if (result.job.state === 'done' && result.oldKeyRetired) return
    await sleep(5)
  }
}

/** How fast a rotation is when nothing else happens, and what it takes from cached retrieves. */
async function rotation({ seconds, rounds }) {
  const credentials = 512
  const rows = []
  await withUsers({}, async ({ daemon, client }) => {
    for (let index = users; index < credentials; index++)
      await client.call('credentials.store', { userId: userOf(index % users), ...credential(index) })
    const measured = []
    for (let round = 0; round < rounds; round++) {
      const bare = await bareDerivations(seconds)
      const from = performance.now()
      await client.call('master.rotate')
      await rotated(client)
      const perSecond = (1000 * credentials) / (performance.now() - from)
      const options = { connections: 64, seconds, requests: retrieves }
      const quiet = await load(daemon.socket, options)
      const loading = load(daemon.socket, options)
      // The load has begun, and has yet to be measured.
      await sleep(300)
      await client.call('master.rotate')
      const loud = await loading
      const { result } = await client.call('master.status')
      if (result.job.state !== 'running')
        throw new Error('the rotation ended before the load: give less --seconds')
      if (quiet.errors + loud.errors > 0) throw new Error(`${quiet.errors + loud.errors} retrieves failed`)
      measured.push({ bare, perSecond, quiet, loud, underLoad: result.job.done / (seconds + 0.2) })
      await rotated(client)
    }
    const of = (pick) => median(measured.map(pick))
    rows.push({
      what: 'rotation, credentials a second / two bare Argon2id each',
      'purser/s': Math.round(of((m) => m.perSecond)),
      'floor/s': Math.round(of((m) => m.bare / 2)),
      ratio: ratio(of((m) => (2 * m.perSecond) / m.bare)),
      bar: '',
      samples: credentials * rounds,
    })
    rows.push({
      what: 'cached retrieve while rotating / without, 64 connections',
      'purser/s': Math.round(of((m) => m.loud.perSecond)),
      'floor/s': Math.round(of((m) => m.quiet.perSecond)),
      ratio: ratio(of((m) => m.loud.perSecond / m.quiet.perSecond)),
      bar: '',
      'p50 us': of((m) => m.loud.p50),
      'p99 us': of((m) => m.loud.p99),
      'max us': of((m) => m.loud.max),
      samples: measured.reduce((sum, { loud }) => sum + loud.answers, 0),
    })
    rows.push({
      what: 'rotation under that load / two bare Argon2id each',
      'purser/s': Math.round(of((m) => m.underLoad)),
      'floor/s': Math.round(of((m) => m.bare / 2)),
      ratio: ratio(of((m) => (2 * m.underLoad) / m.bare)),
      bar: '',
      samples: rounds,
    })
  })
  return rows
}

/** Every section by the name --only takes. */
export const sections = {
  cached: (options) => cached(options),
  authorisation,
  'cached-jitless': (options) => cached(options, ['--jitless'], { PURSER_JITLESS: '1' }),
  cold,
  'cold-beside': coldBeside,
  rotation,
  spend,
  seam,
  million,
  memory,
}
