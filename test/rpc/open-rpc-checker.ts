import { expect } from 'vitest'
import { type JsonSchema, schemasIn } from './json-schema.ts'

export type Param = { readonly name: string; readonly required: boolean; readonly schema: JsonSchema }
export type DescribedMethod = {
  readonly name: string
  readonly summary: string
  readonly paramStructure: string
  readonly params: readonly Param[]
  readonly result: { readonly name: string; readonly schema: JsonSchema }
  readonly errors: readonly { readonly $ref: string }[]
}
export type OpenRpcDocument = {
  readonly openrpc: string
  readonly info: { readonly title: string; readonly version: string }
  readonly methods: readonly DescribedMethod[]
  readonly components: { readonly errors: Record<string, { code: number; message: string; data: unknown }> }
}

/** The members an object of OpenRPC 1.3 may have, and which of them it must; `x-` members are always allowed. */
const shapes: Record<string, { readonly must: readonly string[]; readonly may: readonly string[] }> = {
  document: {
    must: ['openrpc', 'info', 'methods'],
    may: ['externalDocs', 'servers', 'components', '$schema'],
  },
  info: { must: ['title', 'version'], may: ['description', 'termsOfService', 'contact', 'license'] },
  license: { must: [], may: ['name', 'url'] },
  components: {
    must: [],
    may: ['schemas', 'links', 'errors', 'examples', 'examplePairings', 'contentDescriptors', 'tags'],
  },
  method: {
    must: ['name', 'params'],
    may: [
      ...[
        'description',
        'summary',
        'servers',
        'tags',
        'paramStructure',
        'result',
        'errors',
        'links',
        'examples',
      ],
      ...['deprecated', 'externalDocs'],
    ],
  },
  contentDescriptor: { must: ['name', 'schema'], may: ['description', 'summary', 'required', 'deprecated'] },
  error: { must: ['code', 'message'], may: ['data'] },
  reference: { must: ['$ref'], may: [] },
}

function hasShape(value: unknown, name: keyof typeof shapes): void {
  expect(value, name).toBeTypeOf('object')
  const { must, may } = shapes[name]!
  const names = Object.keys(value as object)
  for (const needed of must) expect(names, name).toContain(needed)
  const unknown = names.filter((one) => !must.includes(one) && !may.includes(one) && !one.startsWith('x-'))
  expect(unknown, `unknown members of ${name}`).toEqual([])
}

/** Fails unless `document` is OpenRPC 1.x as its meta-schema has it: the parts of it that purser uses, all closed. */
export function expectOpenRpc(document: OpenRpcDocument): void {
  hasShape(document, 'document')
  expect(document.openrpc).toMatch(/^1\.[0-4]\.\d+$/)
  hasShape(document.info, 'info')
  for (const text of [document.info.title, document.info.version]) expect(text).toBeTypeOf('string')
  hasShape((document.info as { license?: unknown }).license ?? {}, 'license')
  hasShape(document.components, 'components')
  for (const error of Object.values(document.components.errors)) {
    hasShape(error, 'error')
    expect(Number.isInteger(error.code)).toBe(true)
  }
  const names = document.methods.map(({ name }) => name)
  expect(new Set(names).size).toBe(names.length)
  for (const method of document.methods) expectMethod(method, document)
}

function expectMethod(method: DescribedMethod, document: OpenRpcDocument): void {
  hasShape(method, 'method')
  expect(method.name.length).toBeGreaterThan(0)
  expect(method.paramStructure).toBe('by-name')
  const names = method.params.map(({ name }) => name)
  expect(new Set(names).size).toBe(names.length)
  for (const descriptor of [...method.params, method.result]) {
    hasShape(descriptor, 'contentDescriptor')
    expectSchema(descriptor.schema, `${method.name}.${descriptor.name}`)
  }
  for (const error of method.errors) {
    hasShape(error, 'reference')
    const [, type] = /^#\/components\/errors\/(\w+)$/.exec(error.$ref)!
    expect(document.components.errors).toHaveProperty(type!)
  }
}

/** Every schema in it says what it is about, and every pattern is one. */
function expectSchema(schema: JsonSchema, where: string): void {
  for (const one of schemasIn(schema)) {
    const about = ['type', 'anyOf', 'enum', 'const'].filter((keyword) => one[keyword] !== undefined)
    // An object that is open says so by an empty schema for what else is in it.
    if (Object.keys(one).length > 0) expect(about, `${where} ${JSON.stringify(one)}`).not.toEqual([])
    if (typeof one['pattern'] === 'string')
      expect(() => new RegExp(one['pattern'] as string, 'u')).not.toThrow()
  }
}
