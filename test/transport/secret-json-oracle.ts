import { isUtf8 } from 'node:buffer'
import { offHeapCopy, SecretBytes } from '../../src/secret.ts'
import { secretMemberNames } from '../../src/transport/secret-json.ts'

/** What parseLine should answer, found the slow way: by a recursive parser that keeps every member and its spelling. */
export type Expected = {
  readonly value: unknown
  /** In the order of the line: strings that must have been cut out. */
  readonly secrets: readonly string[]
  /** By the place of the request in the batch (0 where there is none): `path` of each issue and its kind. */
  readonly issues: ReadonlyMap<number, readonly string[]>
} | null

type Node =
  | { readonly kind: 'object'; readonly members: readonly Member[] }
  | { readonly kind: 'array'; readonly items: readonly Node[] }
  | { readonly kind: 'string'; readonly text: string }
  | { readonly kind: 'other' }
type Member = { readonly name: string; readonly isPlain: boolean; readonly node: Node }

export function expectedOf(line: Buffer): Expected {
  if (!isUtf8(line)) return null
  const text = line.toString()
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return null
  }
  const top = new Parser(text).value()
  const secrets: string[] = []
  const issues = new Map<number, string[]>()
  const requests = top.kind === 'array' ? top.items : [top]
  for (const [index, request] of requests.entries()) {
    if (request.kind !== 'object') continue
    const parsed = (top.kind === 'array' ? (value as unknown[])[index] : value) as Record<string, unknown>
    const found = expectRequest(request.members, parsed, secrets)
    if (found.length > 0) issues.set(index, found)
  }
  return { value, secrets, issues }
}

function expectRequest(
  members: readonly Member[],
  parsed: Record<string, unknown>,
  secrets: string[],
): string[] {
  const inside = members.flatMap(({ name, node }, position) =>
    node.kind === 'object'
      ? node.members
          .filter((member) => secretMemberNames.has(member.name))
          .map((member) => ({ ...member, container: name, position }))
      : [],
  )
  const paramsTwice = members.filter(({ name }) => name === 'params').length > 1
  for (const { name, node, container, position } of inside) {
    if (node.kind !== 'string') continue
    // Half a surrogate pair becomes U+FFFD.
    secrets.push(node.text.toWellFormed())
    const isKept =
      members.findLastIndex((member) => member.name === container) === position &&
      inside.findLast((other) => other.position === position && other.name === name)?.node === node
    if (!isKept) continue
    const isPlaced =
      container === 'params' && !paramsTwice && inside.filter((other) => other.name === name).length === 1
    const parent = parsed[container] as Record<string, unknown>
    parent[name] = isPlaced ? new SecretBytes(offHeapCopy(Buffer.from(node.text))) : ''
  }
  const issues = new Set<string>()
  for (const { name, isPlain, node } of inside) {
    const inParams = inside.some((other) => other.name === name && other.container === 'params')
    if (node.kind === 'string' && !node.text.isWellFormed() && inParams) issues.add(`${name} halved`)
    if (!isPlain) issues.add(`${name} escaped`)
    if (inside.filter((other) => other.name === name).length > 1) issues.add(`${name} twice`)
  }
  if (paramsTwice && inside.some(({ container }) => container === 'params')) issues.add('params twice')
  return [...issues].sort()
}

/** Reads JSON that JSON.parse has accepted. */
class Parser {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  value(): Node {
    const first = this.#peek()
    if (first === '{') return { kind: 'object', members: this.#list('}', () => this.#member()) }
    if (first === '[') return { kind: 'array', items: this.#list(']', () => this.value()) }
    if (first === '"') return { kind: 'string', text: JSON.parse(this.#string()) }
    this.#at += /^[-+.\w]+/.exec(this.#text.slice(this.#at, this.#at + 400))![0].length
    return { kind: 'other' }
  }

  #member(): Member {
    this.#peek()
    const raw = this.#string()
    this.#peek()
    this.#at++
    return { name: JSON.parse(raw), isPlain: !raw.includes('\\'), node: this.value() }
  }

  #list<T>(close: string, next: () => T): T[] {
    const items: T[] = []
    this.#at++
    while (this.#peek() !== close) {
      if (this.#text[this.#at] === ',') this.#at++
      else items.push(next())
    }
    this.#at++
    return items
  }

  #string(): string {
    const start = this.#at++
    while (this.#text[this.#at] !== '"') this.#at += this.#text[this.#at] === '\\' ? 2 : 1
    return this.#text.slice(start, ++this.#at)
  }

  #peek(): string | undefined {
    while (/\s/.test(this.#text[this.#at] ?? '')) this.#at++
    return this.#text[this.#at]
  }
}
