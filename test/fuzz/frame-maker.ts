import { Random } from './random.ts'

/** Lines as they might come from a broken, hostile or quite ordinary client. Never the one that ends a connection. */

const newline = 0x0a
const lineMax = 65_536

/**
 * Whoever takes away what others have just been handed ends the connections on which it still waits. So there are two
 * kinds of clients, with users of their own, of which one retrieves and the other revokes and the like.
 */
export type Kind = 'retrieves' | 'revokes'
const usersOf = (kind: Kind) => Array.from({ length: 12 }, (_, n) => `${kind}-${n}`)
const otherKind: Record<Kind, readonly string[]> = {
  retrieves: ['credentials.revoke', 'credentials.replace', 'credentials.update'],
  revokes: ['credentials.retrieve'],
}
const secret = (random: Random) => `${Buffer.alloc(32, random.below(256)).toString('base64url')}=`

/** Params that fit, of everything that may be called as often as one likes. */
const params: Record<string, (userId: string, random: Random) => Record<string, unknown>> = {
  'system.ping': () => ({}),
  'system.health': () => ({}),
  'session.hello': (_, random) => ({ client: `fuzz/${random.below(10)}` }),
  'rpc.discover': () => ({}),
  'users.put': (userId, random) => ({
    userId,
    tier: random.pick(['free', 'basic', 'pro', 'premium']),
    limits: { dailyUsd: random.pick(['0', '12.5', 7, null]), exposureUsd: '1000000000000' },
  }),
  'users.get': (userId) => ({ userId }),
  'users.list': (_, random) => ({ limit: 1 + random.below(5) }),
  'users.resetDecryptions': (userId) => ({ userId }),
  'credentials.store': (userId, random) => ({
    userId,
    apiKey: `key-${random.below(20)}`,
    apiSecret: secret(random),
    passphrase: 'line\n "quoted" \u{1f512}',
  }),
  'credentials.retrieve': (userId) => ({ userId }),
  'credentials.get': (userId, random) => ({ userId, credentialId: 1 + random.below(100) }),
  'credentials.list': (userId) => ({ userId, limit: 3 }),
  'credentials.expiring': (_, random) => ({ withinDays: random.below(3650) + 0.5, limit: 3 }),
  'credentials.update': (userId, random) => ({
    userId,
    credentialId: 1 + random.below(100),
    name: `n${random.below(9)}`,
    expiresAt: random.pick([null, '2099-01-01T00:00:00Z']),
  }),
  'credentials.revoke': (userId, random) => ({
    userId,
    credentialId: 1 + random.below(200),
    reason: 'fuzz',
  }),
  'credentials.replace': (userId, random) => ({
    userId,
    credentialId: 1 + random.below(100),
    apiKey: `key-${random.below(20)}`,
    apiSecret: secret(random),
  }),
  'credentials.rotate': (userId, random) => ({ userId, credentialId: 1 + random.below(100) }),
  'audit.query': (_, random) => ({
    limit: 1 + random.below(3),
    action: random.pick(['api_*', 'user_put', '*']),
  }),
}
/** Pings and the like far more often than what has to be opened or sealed. */
const cheap = [
  'system.ping',
  'system.health',
  'session.hello',
  'users.put',
  'users.get',
  'credentials.get',
  'credentials.list',
]

/** As JSON, for each use wants one of its own. */
const oddValues: readonly string[] = [
  ...[null, true, false, 0, -1, 1.5, 2 ** 53, 1e300, '', 'x', '2.0', '\u0000', '\ud800', 'x'.repeat(300)],
  ...[[], {}, [[]], [{}], { a: { b: { c: [] } } }, ['system.ping'], { jsonrpc: '2.0' }],
].map((value) => JSON.stringify(value))
const oddNames = [
  '__proto__',
  'constructor',
  'toString',
  'params',
  'id',
  'method',
  'jsonrpc',
  'apiSecret',
  'result',
  'error',
  '',
]
const oddBytes = [
  0x00, 0x0d, 0x20, 0x22, 0x2c, 0x3a, 0x5b, 0x5c, 0x5d, 0x75, 0x7b, 0x7d, 0x7f, 0x80, 0xc0, 0xed, 0xef, 0xf4,
  0xff,
]
const oddTexts = [
  '\\u0000',
  '\\ud800',
  '"\\u0061piSecret":"x",',
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '""',
  'null',
  '1e999',
  '\ufeff',
  '//',
]

export class FrameMaker {
  readonly #random: Random
  readonly #users: readonly string[]
  readonly #methods: readonly string[]

  constructor(seed: number, kind: Kind) {
    this.#random = new Random(seed)
    this.#users = usersOf(kind)
    this.#methods = Object.keys(params).filter((method) => !otherKind[kind].includes(method))
  }

  /** One line without its newline, at most as long as a line may be. */
  line(): Buffer {
    const line = this.#anyLine()
    const end = line.indexOf(newline)
    return line.subarray(0, Math.min(end === -1 ? line.length : end, lineMax))
  }

  /** How many bytes of what is to be sent go out at once. */
  pieceLength(): number {
    return this.#random.pick([1, 7, 100, 1000, 4096, 30_000, 65_536, 100_000])
  }

  #anyLine(): Buffer {
    const random = this.#random
    const kind = random.below(100)
    if (kind < 8) return this.#bytes(random.below(120))
    if (kind < 12) return Buffer.from(random.pick(['', ' ', '\t\r', '  ', ...oddTexts]))
    if (kind < 14) return this.#nested()
    if (kind < 30) return Buffer.from(JSON.stringify(this.#oddRequest()))
    if (kind < 40) return Buffer.from(JSON.stringify(this.#batch()))
    const valid = Buffer.from(JSON.stringify(this.#request()))
    return kind < 65 ? valid : this.#mutated(valid)
  }

  #request(): Record<string, unknown> {
    const random = this.#random
    const method = random.pick(random.chance(80) ? cheap : this.#methods)
    const request: Record<string, unknown> = {
      jsonrpc: '2.0',
      method,
      params: params[method]!(random.pick(this.#users), random),
    }
    if (random.chance(90)) request['id'] = random.pick([random.below(1000), `id-${random.below(1000)}`, null])
    return request
  }

  #oddRequest(): unknown {
    const random = this.#random
    if (random.chance(15)) return JSON.parse(random.pick(oddValues))
    const request = this.#request()
    for (let changes = 1 + random.below(3); changes > 0; changes--) {
      const inside = random.chance(50) ? (request['params'] as Record<string, unknown>) : request
      const target =
        typeof inside === 'object' && inside !== null && !Array.isArray(inside) ? inside : request
      const name = random.chance(60) ? random.pick(Object.keys(target)) : random.pick(oddNames)
      if (random.chance(20)) delete target[name]
      else
        Object.defineProperty(target, name, {
          value: JSON.parse(random.pick(oddValues)),
          enumerable: true,
          configurable: true,
          writable: true,
        })
    }
    return request
  }

  #batch(): unknown[] {
    const random = this.#random
    const length = random.pick([0, 1, 2, 3, 5, 8, random.chance(5) ? 100 : 4, random.chance(5) ? 101 : 4])
    return Array.from({ length }, () => (random.chance(70) ? this.#request() : this.#oddRequest()))
  }

  #nested(): Buffer {
    const random = this.#random
    const open = random.pick(['[', '{"a":', '[{"jsonrpc":"2.0","params":', '{"params":{"token":'])
    const depth = random.below(random.chance(3) ? 4000 : 60)
    return Buffer.from(open.repeat(depth) + random.pick(['', '1', '"x"', ']'.repeat(depth)]))
  }

  #bytes(length: number): Buffer {
    const random = this.#random
    const ascii = random.chance(50)
    return Buffer.from(Array.from({ length }, () => (ascii ? 0x20 + random.below(0x5f) : random.below(256))))
  }

  /** `line` after one to four accidents. */
  #mutated(line: Buffer): Buffer {
    const random = this.#random
    let bytes: Buffer = Buffer.from(line)
    for (let times = 1 + random.below(4); times > 0; times--) bytes = this.#accident(bytes)
    return bytes
  }

  #accident(bytes: Buffer): Buffer {
    const random = this.#random
    const at = random.below(bytes.length + 1)
    const [head, tail] = [bytes.subarray(0, at), bytes.subarray(at)]
    switch (random.below(7)) {
      case 0: {
        if (tail.length > 0) tail[0]! ^= 1 << random.below(8)
        return bytes
      }
      case 1: {
        if (tail.length > 0) tail[0] = random.pick(oddBytes)
        return bytes
      }
      case 2:
        return Buffer.concat([head, Buffer.from([random.pick(oddBytes)]), tail])
      case 3:
        return Buffer.concat([head, Buffer.from(random.pick(oddTexts)), tail])
      case 4:
        return Buffer.concat([head, tail.subarray(1 + random.below(8))])
      case 5:
        return random.chance(30) ? head : Buffer.concat([head, tail.subarray(0, 20), tail])
      default:
        return Buffer.concat([head, Buffer.from(JSON.stringify(this.#request())).subarray(random.below(60))])
    }
  }
}
