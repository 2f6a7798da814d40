import type { CallOptions } from './call.ts'
import { resendTable } from './resend.ts'
import type { MethodName, MethodTable, Params, Result } from './types.ts'

type CallOf<Row> = Row extends { readonly params: infer P; readonly result: infer R }
  ? Record<never, never> extends P
    ? (params?: P, options?: CallOptions) => Promise<R>
    : (params: P, options?: CallOptions) => Promise<R>
  : never

/** The methods of one group as functions. Docs of the table's rows show at each of them. */
export type Group<G extends keyof MethodTable> = {
  readonly [N in keyof MethodTable[G]]: CallOf<MethodTable[G][N]>
}

/**
 * Arguments of `client.call` after the method's name: typed for the methods of the table, and open for a name
 * that this version of the client does not know.
 */
export type CallArguments<M extends string> = M extends MethodName
  ? Record<never, never> extends Params<M>
    ? [params?: Params<M>, options?: CallOptions]
    : [params: Params<M>, options?: CallOptions]
  : [params?: Readonly<Record<string, unknown>>, options?: CallOptions]

/** What `client.call` resolves to: `unknown` for a method this version of the client does not know. */
export type CallResult<M extends string> = M extends MethodName ? Result<M> : unknown

type AnyCall = (
  method: string,
  params: Readonly<Record<string, unknown>> | undefined,
  options: CallOptions | undefined,
) => Promise<unknown>

/** The functions of a group, each a call of `group.name`. */
export function bindGroup<G extends keyof MethodTable>(group: G, call: AnyCall): Group<G> {
  const names = Object.keys(resendTable[group])
  const bound = names.map((name) => [
    name,
    (params?: Readonly<Record<string, unknown>>, options?: CallOptions) =>
      call(`${group}.${name}`, params, options),
  ])
  // resendTable has the same keys as MethodTable, held so by its `satisfies`.
  return Object.freeze(Object.fromEntries(bound)) as Group<G>
}
