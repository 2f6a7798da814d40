/** As much of JSON Schema as purser's documents use; any other keyword is a mistake of the document or of this. */
export type JsonSchema = { readonly [keyword: string]: unknown }

const annotations = new Set(['description', 'default', 'examples', 'writeOnly', 'format'])

/** What keeps `value` from fitting `schema`, null where it fits. Throws for a keyword it does not know. */
export function misfit(schema: JsonSchema, value: unknown, path = ''): string | null {
  for (const [keyword, rule] of Object.entries(schema)) {
    if (annotations.has(keyword)) continue
    const check = checks[keyword]
    if (check === undefined) throw new Error(`unknown keyword ${keyword} at ${path}`)
    const found = check(rule as never, value, schema, path)
    if (found !== null) return `${path}: ${found}`
  }
  return null
}

type Check = (rule: never, value: unknown, schema: JsonSchema, path: string) => string | null

/** A rule for values of one kind; all others fit. */
function forKind<Kind, Rule>(
  isKind: (value: unknown) => value is Kind,
  fits: (rule: Rule, value: Kind) => boolean,
  text: string,
): Check {
  return (rule, value) =>
    !isKind(value) || fits(rule as Rule, value) ? null : `${text} ${JSON.stringify(rule)}`
}

const isString = (value: unknown): value is string => typeof value === 'string'
const isNumber = (value: unknown): value is number => typeof value === 'number'
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const typed: Record<string, (value: unknown) => boolean> = {
  string: isString,
  number: isNumber,
  integer: Number.isInteger,
  boolean: (value) => typeof value === 'boolean',
  null: (value) => value === null,
  array: Array.isArray,
  object: isObject,
}

const checks: Record<string, Check | undefined> = {
  type: (rule: string | string[], value) =>
    [rule].flat().some((type) => typed[type]!(value)) ? null : `is no ${[rule].flat().join(' or ')}`,
  enum: (rule: unknown[], value) => (rule.includes(value) ? null : `is none of ${JSON.stringify(rule)}`),
  const: (rule: unknown, value) => (rule === value ? null : `is not ${JSON.stringify(rule)}`),
  pattern: forKind(isString, (rule: string, value) => new RegExp(rule, 'u').test(value), 'does not fit'),
  // JSON Schema counts characters.
  minLength: forKind(isString, (rule: number, value) => [...value].length >= rule, 'is shorter than'),
  maxLength: forKind(isString, (rule: number, value) => [...value].length <= rule, 'is longer than'),
  minimum: forKind(isNumber, (rule: number, value) => value >= rule, 'is below'),
  maximum: forKind(isNumber, (rule: number, value) => value <= rule, 'is above'),
  exclusiveMinimum: forKind(isNumber, (rule: number, value) => value > rule, 'is not above'),
  exclusiveMaximum: forKind(isNumber, (rule: number, value) => value < rule, 'is not below'),
  minItems: forKind(
    Array.isArray,
    (rule: number, value: unknown[]) => value.length >= rule,
    'is shorter than',
  ),
  maxItems: forKind(
    Array.isArray,
    (rule: number, value: unknown[]) => value.length <= rule,
    'is longer than',
  ),
  anyOf: (rule: JsonSchema[], value, _, path) =>
    rule.some((schema) => misfit(schema, value, path) === null) ? null : 'fits none of anyOf',
  items: (rule: JsonSchema, value, _, path) =>
    Array.isArray(value) ? first(value.map((item, n) => misfit(rule, item, `${path}[${n}]`))) : null,
  properties: (rule: Record<string, JsonSchema>, value, _, path) =>
    isObject(value)
      ? first(
          Object.entries(rule).map(([name, schema]) =>
            Object.hasOwn(value, name) ? misfit(schema, value[name], `${path}.${name}`) : null,
          ),
        )
      : null,
  required: (rule: string[], value) =>
    isObject(value)
      ? first(rule.map((name) => (Object.hasOwn(value, name) ? null : `has no ${name}`)))
      : null,
  additionalProperties: (rule: boolean | JsonSchema, value, { properties = {} }, path) => {
    if (!isObject(value) || rule === true) return null
    const others = Object.keys(value).filter((name) => !Object.hasOwn(properties as object, name))
    if (rule === false) return others.length === 0 ? null : `has an unknown member ${others[0]}`
    return first(others.map((name) => misfit(rule, value[name], `${path}.${name}`)))
  },
  propertyNames: (rule: JsonSchema, value, _, path) =>
    isObject(value) ? first(Object.keys(value).map((name) => misfit(rule, name, `${path}.${name}`))) : null,
}

function first(found: readonly (string | null)[]): string | null {
  return found.find((text) => text !== null) ?? null
}

/** Every schema inside `schema`, itself too. */
export function* schemasIn(schema: JsonSchema): Generator<JsonSchema> {
  yield schema
  const inner = [
    schema['anyOf'] ?? [],
    schema['items'] ?? [],
    Object.values(schema['properties'] ?? {}),
  ].flat()
  for (const one of inner as JsonSchema[]) yield* schemasIn(one)
  if (isObject(schema['additionalProperties'])) yield* schemasIn(schema['additionalProperties'])
}
