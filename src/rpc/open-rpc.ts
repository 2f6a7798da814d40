import { z } from 'zod'
import { errorTable } from '../errors.ts'
import type { Method } from './method.ts'
import {
  apiSecret,
  clientString,
  credentialId,
  masterKey,
  privateKey,
  secret,
  timeOut,
  timestamp,
  usdLimit,
  userId,
} from './schemas.ts'

type JsonSchema = {
  type?: string
  properties?: Record<string, unknown>
  required?: string[]
  [keyword: string]: unknown
}

/** base64 of which `more` are the last two digits: padding optional, no stray bits in the last digit. */
function base64(more: string): string {
  const digit = `[A-Za-z0-9${more}]`
  return `(${digit}{4}){0,256}(${digit}[AQgw](==)?|${digit}{2}[AEIMQUYcgkosw048]=?)?`
}

/** What a zod schema says in code (refinements, transforms, secrets cut out of the line), said in JSON Schema. */
const described = new Map<unknown, JsonSchema>([
  [
    userId,
    {
      description: 'a user; an integer is read as its decimal string',
      anyOf: [
        { type: 'string', pattern: '^[A-Za-z0-9._:@-]{1,128}$' },
        { type: 'integer', minimum: 0, maximum: Number.MAX_SAFE_INTEGER },
      ],
    },
  ],
  [credentialId, { description: 'a credential of the user', type: 'integer', minimum: 1 }],
  [
    clientString,
    { description: '1 to 256 bytes of well-formed Unicode', type: 'string', minLength: 1, maxLength: 256 },
  ],
  [
    secret,
    {
      description: '1 to 1024 bytes; never echoed',
      type: 'string',
      minLength: 1,
      maxLength: 1024,
      writeOnly: true,
    },
  ],
  [
    apiSecret,
    {
      description: 'base64 or base64url, 1 to 1024 bytes; never echoed',
      type: 'string',
      pattern: `^(${base64('_-')}|${base64('+/')})$`,
      minLength: 2,
      maxLength: 1024,
      writeOnly: true,
    },
  ],
  [
    privateKey,
    {
      description: '0x (which may be missing) and 64 hex digits; never echoed',
      type: 'string',
      pattern: '^(0x)?[0-9A-Fa-f]{64}$',
      writeOnly: true,
    },
  ],
  [
    masterKey,
    {
      description: '32 bytes as base64, base64url or hex; never echoed',
      type: 'string',
      minLength: 43,
      maxLength: 1024,
      writeOnly: true,
    },
  ],
  [
    usdLimit,
    {
      description: 'US dollars, at most 10^12; a number only below 10^9',
      examples: ['250.00', '0.000001'],
      anyOf: [
        { type: 'string', pattern: '^(0|[1-9][0-9]{0,12})(\\.[0-9]{1,6})?$' },
        { type: 'number', minimum: 0, exclusiveMaximum: 1_000_000_000 },
      ],
    },
  ],
  [
    timestamp,
    {
      description: 'RFC 3339',
      examples: ['2026-11-23T08:00:00Z'],
      type: 'string',
      format: 'date-time',
      maxLength: 64,
    },
  ],
  [
    timeOut,
    { type: 'string', format: 'date-time', pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z$' },
  ],
])

/** The OpenRPC document of the given methods, made from the schemas that check their params. */
export function openRpcDocument(methods: readonly Method[], version: string): object {
  return {
    openrpc: '1.3.2',
    info: {
      title: 'purser',
      version,
      description:
        'Keeps Polymarket credentials for the trading bots of one host. JSON-RPC 2.0, one line a message. ' +
        'A member of params that its method does not list is refused.',
      license: { name: 'MIT' },
    },
    methods: methods.map(describeMethod),
    components: {
      errors: Object.fromEntries(
        Object.entries(errorTable).map(([type, { code, message }]) => [
          type,
          { code, message, data: { type } },
        ]),
      ),
    },
  }
}

function describeMethod(method: Method): object {
  const params = jsonSchema(method.params, 'input')
  const required = new Set(params.required ?? [])
  return {
    name: method.name,
    summary: method.summary,
    paramStructure: 'by-name',
    params: Object.entries(params.properties ?? {}).map(([name, schema]) => ({
      name,
      required: required.has(name),
      schema,
    })),
    result: { name: 'result', schema: jsonSchema(method.result, 'output') },
    errors: errorsOf(method),
    'x-scope': method.scope,
  }
}

function errorsOf(method: Method): { $ref: string }[] {
  const types =
    method.scope === 'anyone'
      ? ['InvalidParams', 'Overloaded']
      : ['Forbidden', 'InvalidParams', 'Overloaded', 'StorageUnavailable']
  return types.map((type) => ({ $ref: `#/components/errors/${type}` }))
}

function jsonSchema(schema: z.ZodType, io: 'input' | 'output'): JsonSchema {
  const { $schema, ...rest } = z.toJSONSchema(schema, {
    io,
    unrepresentable: 'any',
    override: ({ zodSchema, jsonSchema }) => {
      const better = described.get(zodSchema)
      if (better === undefined) return
      for (const keyword of Object.keys(jsonSchema)) delete jsonSchema[keyword]
      Object.assign(jsonSchema, better)
    },
  }) as JsonSchema
  return rest
}
