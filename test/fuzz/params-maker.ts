import fc from 'fast-check'
import type { JsonSchema } from '../rpc/json-schema.ts'
import type { DescribedMethod, Param } from '../rpc/open-rpc-checker.ts'

/** Params of methods, made from what rpc.discover says of them: fitting ones, and ones that nearly do. */

const milliseconds = {
  min: new Date('1970-01-01T00:00:00Z'),
  max: new Date('9999-12-31T23:59:59Z'),
  noInvalidDate: true,
}

const time = fc
  .tuple(fc.date(milliseconds), fc.constantFrom('Z', 'z', '+00:00', '-23:59', '+05:30'))
  .map(([date, offset]) => date.toISOString().replace('Z', offset))

/** What the exchange's secrets look like, a private key, and anything else. */
const secret = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 48 }).map((bytes) => Buffer.from(bytes).toString('base64url')),
  fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => `0x${Buffer.from(bytes).toString('hex')}`),
  fc.string({ unit: 'binary', minLength: 1, maxLength: 64 }),
)

function stringOf(schema: JsonSchema): fc.Arbitrary<unknown> {
  if (typeof schema['pattern'] === 'string') return fc.stringMatching(new RegExp(schema['pattern'], 'u'))
  if (schema['format'] === 'date-time') return time
  if (schema['writeOnly'] === true) return secret
  const minLength = Number(schema['minLength'] ?? 0)
  const maxLength = Math.min(Number(schema['maxLength'] ?? 300), 300)
  return fc.oneof(
    fc.string({ minLength, maxLength: Math.min(maxLength, 40) }),
    fc.string({ unit: 'binary', minLength, maxLength }),
  )
}

function numberOf(schema: JsonSchema): fc.Arbitrary<unknown> {
  const min = Number(schema['minimum'] ?? schema['exclusiveMinimum'] ?? -1e6)
  const max = Number(schema['maximum'] ?? schema['exclusiveMaximum'] ?? 1e6)
  if (schema['type'] === 'integer') {
    const low = Math.ceil(min) + (schema['exclusiveMinimum'] === undefined ? 0 : 1)
    return fc.oneof(
      fc.integer({ min: low, max: Math.min(max, low + 5) }),
      fc.integer({ min: low, max: Math.min(max, 2 ** 31) }),
    )
  }
  return fc.oneof(
    fc.integer({ min: Math.ceil(min), max: Math.floor(Math.min(max, 1e9)) }),
    fc.double({ min, max, noNaN: true }),
  )
}

/** Values that fit `schema`. */
export function fitting(schema: JsonSchema): fc.Arbitrary<unknown> {
  if (Array.isArray(schema['anyOf'])) return fc.oneof(...(schema['anyOf'] as JsonSchema[]).map(fitting))
  if (Array.isArray(schema['enum'])) return fc.constantFrom(...(schema['enum'] as unknown[]))
  if ('const' in schema) return fc.constant(schema['const'])
  switch (schema['type']) {
    case 'string':
      return stringOf(schema)
    case 'integer':
    case 'number':
      return numberOf(schema)
    case 'boolean':
      return fc.boolean()
    case 'null':
      return fc.constant(null)
    case 'object': {
      const properties = (schema['properties'] ?? {}) as Record<string, JsonSchema>
      const members = Object.fromEntries(
        Object.entries(properties).map(([name, one]) => [name, fitting(one)]),
      )
      return fc.record(members, { requiredKeys: (schema['required'] ?? []) as string[] })
    }
    case 'array':
      return fc.array(fitting((schema['items'] ?? {}) as JsonSchema), {
        minLength: Number(schema['minItems'] ?? 0),
        maxLength: 5,
      })
    default:
      throw new Error(`cannot make values of ${JSON.stringify(schema)}`)
  }
}

/** What nobody expects where a value should be. */
const oddValue = fc.oneof(
  fc.constantFrom<unknown>(
    ...[
      null,
      true,
      false,
      0,
      -0,
      -1,
      0.5,
      1e-7,
      2 ** 53,
      2 ** 53 + 2,
      -(2 ** 53),
      1e300,
      1e9,
      999_999_999.999999,
    ],
    ...[
      '',
      ' ',
      '0',
      '-1',
      '1e3',
      '0x10',
      '1.0000000',
      '1000000000000',
      '1000000000000.000001',
      '01',
      '.5',
      'NaN',
    ],
    ...[
      '\u0000',
      '\ud800',
      '\udfff\ud800',
      '\u{1f512}'.repeat(64),
      'x'.repeat(257),
      'x'.repeat(2000),
      '../../etc/passwd',
    ],
    ...[
      '2026-02-30T00:00:00Z',
      '2026-01-01',
      '2026-01-01T24:00:00Z',
      '2026-01-01T00:00:60Z',
      '9999-12-31T23:59:59-23:59',
    ],
    ...[[], {}, [[]], { toJSON: 1 }, { length: 1 }, ['alice'], { $ref: '#' }],
  ),
  fc.jsonValue({ maxDepth: 2 }),
)

const oddName = fc.constantFrom(
  'x',
  '__proto__',
  'constructor',
  'toString',
  '',
  'userid',
  'userId ',
  'limits',
  'token',
  'masterKey',
)

function membersOf(
  params: readonly Param[],
  value: (param: Param) => fc.Arbitrary<unknown>,
  required: boolean,
) {
  const members = Object.fromEntries(params.map((param) => [param.name, value(param)]))
  const requiredKeys = required ? params.filter((param) => param.required).map(({ name }) => name) : []
  return fc.record(members, { requiredKeys }) as fc.Arbitrary<Record<string, unknown>>
}

/** Params that fit what the document says of `method`. */
export function fittingParams(method: DescribedMethod): fc.Arbitrary<Record<string, unknown>> {
  return membersOf(method.params, ({ schema }) => fitting(schema), true)
}

/** Params of which one thing or another may not fit. */
export function anyParams(method: DescribedMethod): fc.Arbitrary<unknown> {
  const odd = membersOf(
    method.params,
    ({ schema }) => fc.oneof({ weight: 3, arbitrary: fitting(schema) }, { weight: 1, arbitrary: oddValue }),
    false,
  )
  const withUnknown = fc
    .tuple(fittingParams(method), oddName, oddValue)
    .map(([params, name, value]) => Object.fromEntries([...Object.entries(params), [name, value]]))
  return fc.oneof(
    { weight: 6, arbitrary: fittingParams(method) },
    { weight: 6, arbitrary: odd },
    { weight: 2, arbitrary: withUnknown },
    { weight: 1, arbitrary: oddValue },
  )
}
