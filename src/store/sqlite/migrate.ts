import { chmodSync, closeSync, constants, fsyncSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import type Database from 'better-sqlite3'
import { StartError } from '../../errors.ts'

/** One step from schema version `from` to `from + 1`. */
export type Migration = { readonly from: number; readonly sql: string }

/** Every step there is, oldest first. Version 1 is the first, so there is none yet. */
export const migrations: readonly Migration[] = []

/**
 * Brings `database` from version `found` to `wanted` in one transaction, after writing a whole copy of it beside the
 * store (0600), which stays. Answers the copy's path. Nothing is changed where a step fails.
 */
export function migrate(
  database: Database.Database,
  path: string,
  found: number,
  wanted: number,
  steps: readonly Migration[],
): string {
  const chosen = Array.from({ length: wanted - found }, (_, offset) =>
    steps.find((step) => step.from === found + offset),
  )
  if (chosen.some((step) => step === undefined)) {
    throw new StartError(
      'storeUnusable',
      `${path} has schema version ${found}, which this purser cannot bring to ${wanted}`,
      'install the purser versions in between, one after the other',
    )
  }
  const copy = `${path}.v${found}-${new Date().toISOString().replace(/[-:.]/g, '')}`
  database.prepare('VACUUM INTO ?').run(copy)
  chmodSync(copy, 0o600)
  // VACUUM INTO syncs nothing, and the copy must not be younger on disk than what it is kept for.
  sync(copy, constants.O_RDONLY)
  sync(dirname(copy), constants.O_RDONLY | constants.O_DIRECTORY)
  database.exec('BEGIN IMMEDIATE')
  try {
    for (const step of chosen) database.exec(step!.sql)
    database.pragma(`user_version = ${wanted}`)
    database.exec('COMMIT')
  } catch (error) {
    if (database.inTransaction) database.exec('ROLLBACK')
    throw error
  }
  return copy
}

function sync(path: string, flags: number): void {
  const fd = openSync(path, flags)
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
