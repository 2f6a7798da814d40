import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import Database from 'better-sqlite3'
import type { Story } from './story.ts'
import { until } from './story.ts'

export type Status = {
  epoch: number
  keyId: string
  oldKeyRetired: boolean
  job: { kind: string; state: string; done: number; total: number } | null
}

export function newKey(): string {
  return randomBytes(32).toString('hex')
}

/** Waits for the end of the job, and answers what is told then. */
export async function jobEnded(story: Story): Promise<Status> {
  let status: Status | null = null
  await until(async () => {
    status = await story.ok('master.status')
    return status!.job?.state === 'done' || status!.job?.state === 'failed'
  }, 60_000)
  return status!
}

/** Waits until one key opens the store. */
export async function retired(story: Story): Promise<void> {
  await until(async () => ((await story.ok('master.status')) as Status).oldKeyRetired)
}

/** What the operator does after a rotation: the source hands out another key from now on. */
export function setKeyFile(story: Story, key: string): void {
  writeFileSync(story.purser.masterKeyFile!, `${key}\n`)
}

export function keyFile(story: Story): string {
  return readFileSync(story.purser.masterKeyFile!, 'utf8').trim()
}

/** Reads or changes the store of a daemon that does not run. */
export function onStore<T>(story: Story, act: (database: Database.Database) => T): T {
  const database = new Database(`${story.purser.dataDirectory}/purser.db`)
  try {
    return act(database)
  } finally {
    database.close()
  }
}
