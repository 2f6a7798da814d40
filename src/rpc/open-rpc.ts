import { z } from 'zod'
import { errorTable } from '../errors.ts'
import type { Method } from './method.ts'

type JsonSchema = { type?: string; properties?: Record<string, unknown>; required?: string[] }

/**
 * The OpenRPC document of the given methods, made from the schemas that check their params. What a schema cannot say
 * in JSON Schema (a secret's bytes) it says in its metadata.
 */
export function openRpcDocument(methods: readonly Method[], version: string): object {
  return {
    openrpc: '1.3.2',
    info: {
      title: 'purser',
      version,
      description:
        'Keeps Polymarket credentials for the trading bots of one host. JSON-RPC 2.0, one line a message.',
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
  const { $schema, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: 'any' }) as JsonSchema & {
    $schema?: string
  }
  return rest
}
