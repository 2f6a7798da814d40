import { type Command, Option } from 'commander'
import type { AuditEntry, AuditOutcome, PurserClient } from '../../client/index.ts'
import type { FetchPage } from '../pages.ts'
import type { Colour } from '../text/style.ts'
import type { Column } from '../text/table.ts'
import { shown } from '../text/values.ts'

const outcomeColours: Readonly<Record<string, Colour>> = { ok: 'green', denied: 'yellow', error: 'red' }

function describePeer({ peer, client }: AuditEntry): string {
  const process = peer === null ? '-' : `uid ${shown(peer.uid)} pid ${shown(peer.pid)}`
  return [process, peer?.comm, client].filter((part) => part).join(' ')
}

/** The table of entries. `least` keeps room for what later entries of a tail may hold. */
export const entryColumns: readonly Column<AuditEntry>[] = [
  { title: 'SEQ', value: (entry) => String(entry.seq), align: 'right', keep: true, least: 5 },
  { title: 'AT', value: (entry) => shown(entry.at), keep: true },
  {
    title: 'OUTCOME',
    value: (entry) => entry.outcome,
    colour: (entry) => outcomeColours[entry.outcome] ?? null,
  },
  { title: 'ACTION', value: (entry) => entry.action, least: 18 },
  { title: 'USER', value: (entry) => shown(entry.userId), least: 8 },
  { title: 'CRED', value: (entry) => shown(entry.credentialId), align: 'right' },
  { title: 'BY', value: describePeer, least: 20 },
  { title: 'DETAILS', value: (entry) => JSON.stringify(entry.details) },
]

/** Which entries `audit query` and `audit tail` are asked for. */
export type EntryFilter = {
  readonly user?: string
  readonly action?: string
  readonly outcome?: AuditOutcome
}

/** The options of `audit query` and `audit tail` that choose entries. */
export function addFilterOptions(command: Command): Command {
  return command
    .option('--user <USER>', 'only entries about this user')
    .option('--action <ACTION>', 'only this action; it may end in *, like api_key_*')
    .addOption(
      new Option('--outcome <OUTCOME>', 'only entries with this outcome').choices(['ok', 'denied', 'error']),
    )
}

/** Times as audit.query takes them. */
export type Window = { readonly since?: string; readonly until?: string }

/** Pages of `audit.query`, newest first. */
export function fetchEntries(
  client: PurserClient,
  filter: EntryFilter & Window,
  signal?: AbortSignal,
): FetchPage<AuditEntry> {
  const { user: userId, action, outcome, since, until } = filter
  return async (page) => {
    const answer = await client.call(
      'audit.query',
      { ...page, userId, action, outcome, since, until },
      { signal },
    )
    return { rows: answer.entries, nextCursor: answer.nextCursor }
  }
}
