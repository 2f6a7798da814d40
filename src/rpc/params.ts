import type { z } from 'zod'
import type { ParamIssue } from '../errors.ts'
import { PurserError } from '../errors.ts'

/** Issues told of at most; a line can hold thousands of unknown members. */
const issuesMax = 20
const pathLengthMax = 256

type Issue = z.core.$ZodIssue

/**
 * The params of a request by its method's schema. InvalidParams with a path and a message for each thing wrong; a
 * message never holds a value. `cutIssues` are what the frame already found wrong with secret members.
 */
export function checkParams<Schema extends z.ZodType>(
  schema: Schema,
  params: unknown,
  cutIssues: readonly ParamIssue[] | undefined,
): z.output<Schema> {
  if (cutIssues !== undefined)
    throw new PurserError('InvalidParams', { issues: cutIssues.slice(0, issuesMax) })
  const given = params === undefined ? {} : params
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new PurserError('InvalidParams', { issues: [{ path: '', message: 'params must be an object' }] })
  }
  const result = schema.safeParse(given)
  if (result.success) return result.data
  const issues = result.error.issues.flatMap(issuesOf).slice(0, issuesMax)
  throw new PurserError('InvalidParams', { issues })
}

function issuesOf(issue: Issue): ParamIssue[] {
  // Zod puts unknown members at the object that holds them; the contract wants the member's own path.
  if (issue.code === 'unrecognized_keys') {
    return issue.keys
      .slice(0, issuesMax)
      .map((key) => ({ path: pathOf([...issue.path, key]), message: 'unknown member' }))
  }
  return [{ path: pathOf(issue.path), message: issue.message }]
}

function pathOf(path: readonly PropertyKey[]): string {
  return path.map(String).join('.').slice(0, pathLengthMax)
}
