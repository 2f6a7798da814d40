import { setTimeout as sleep } from 'node:timers/promises'
import type { MasterStatus, PurserClient } from '../../client/index.ts'
import { type Cli, note } from '../cli.ts'
import { bar } from '../text/bar.ts'

/** How often the daemon is asked. */
const pollMs = 250
/** How often a line is written where stderr is no terminal. */
const lineMs = 5000
/** The rate is that of this long: a job slows down when requests come. */
const rateMs = 10_000
const barColumns = 32
/** Back to the beginning of the line, and away with what stands there. */
const clearLine = '\r\u001b[K'

type Sample = { readonly atMs: number; readonly done: number }

/**
 * Waits for the end of the running job and shows how far it is: one line that moves on a terminal, a line now and then
 * otherwise. Answers what is told at the end. Ctrl-C ends the waiting alone; the job goes on.
 */
export async function watchJob(cli: Cli, client: PurserClient): Promise<MasterStatus> {
  const moving = (cli.stderr as { isTTY?: boolean }).isTTY === true
  const samples: Sample[] = []
  let toldAtMs = performance.now()
  for (;;) {
    const status = await client.call('master.status')
    const { job } = status
    if (job === null || job.state === 'done' || job.state === 'failed') {
      if (moving) cli.stderr.write(clearLine)
      return settled(client, status)
    }
    const nowMs = performance.now()
    samples.push({ atMs: nowMs, done: job.done })
    while (samples.length > 2 && nowMs - samples[0]!.atMs > rateMs) samples.shift()
    const text = progressText(job, samples)
    if (moving) cli.stderr.write(`${clearLine}${bar(percentOf(job), barColumns)} ${text}`)
    else if (nowMs - toldAtMs >= lineMs) {
      note(cli, text)
      toldAtMs = nowMs
    }
    await sleep(pollMs)
  }
}

/** The old key may retire a moment after the job: the source is asked in between. */
async function settled(client: PurserClient, ended: MasterStatus): Promise<MasterStatus> {
  let status = ended
  for (let tries = 0; tries < 8 && status.job?.state === 'done' && !status.oldKeyRetired; tries++) {
    await sleep(pollMs)
    status = await client.call('master.status')
  }
  return status
}

function percentOf({ done, total }: { done: number; total: number }): number {
  return total === 0 ? 100 : (100 * done) / total
}

/** `512 of 2000, 25 %, 130/s, 11 s left`; `paused` while the daemon is sealed. */
export function progressText(job: NonNullable<MasterStatus['job']>, samples: readonly Sample[]): string {
  const parts = [`${job.done} of ${job.total}`, `${Math.floor(percentOf(job))} %`]
  if (job.state === 'paused') return [...parts, 'paused: the daemon is sealed'].join(', ')
  const [first, last] = [samples[0], samples.at(-1)]
  if (first === undefined || last === undefined || last.done <= first.done) return parts.join(', ')
  const perSecond = ((last.done - first.done) * 1000) / (last.atMs - first.atMs)
  const left = Math.ceil((job.total - job.done) / perSecond)
  return [
    ...parts,
    `${perSecond < 10 ? perSecond.toFixed(1) : Math.round(perSecond)}/s`,
    `${duration(left)} left`,
  ].join(', ')
}

function duration(seconds: number): string {
  if (seconds < 100) return `${seconds} s`
  const minutes = Math.ceil(seconds / 60)
  return minutes < 100 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}
