import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = (name) => fileURLToPath(new URL(name, import.meta.url))

/** A temporary directory that is gone when `use` is done. */
export async function inDirectory(use) {
  const directory = mkdtempSync(join(tmpdir(), 'purser-bench-'))
  try {
    return await use(directory)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Runs `command` until its first line on stdout that `isReady`; answers the child. */
export function startUntil(command, args, isReady, env = process.env) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    child.stdout.on('data', (chunk) => {
      output += chunk
      if (isReady(output)) resolve(child)
      if (output.length > 1_000_000) output = output.slice(-1000)
    })
    child.stderr.on('data', (chunk) => {
      output += chunk
    })
    child.once('exit', (code) => reject(new Error(`${command} exited with ${code}: ${output}`)))
  })
}

export function stop(child) {
  return new Promise((resolve) => {
    child.removeAllListeners('exit')
    child.once('exit', resolve)
    child.kill('SIGTERM')
  })
}

/** The daemon under test on a store in `directory`. `environment` overrides settings. */
export async function startDaemon(directory, environment = {}) {
  const socket = join(directory, 'purser.sock')
  const env = { PATH: process.env.PATH, HOME: directory, ...environment }
  const child = await startUntil(
    here('../bin/purserd'),
    ['--data-dir', directory, '--socket', socket, '--log-level', 'error'],
    (text) => text.includes('"ready"'),
    env,
  )
  return { child, socket }
}

/** The floor server for answers of `answerLength` bytes. */
export async function startFloor(directory, answerLength, flags = [], mode = 'group') {
  const socket = join(directory, `floor-${mode}.sock`)
  const args = [...flags, here('./floor-server.mjs'), directory, socket, String(answerLength), mode]
  const child = await startUntil(process.execPath, args, (text) => text.includes('ready'))
  return { child, socket }
}

/** Closed-loop load; see load.mjs. `requests` are objects, dealt to the connections in turn. */
export function load(socket, { connections, seconds, warmUp = 0.5, requests, token }) {
  return new Promise((resolve, reject) => {
    const args = [here('./load.mjs'), socket, String(connections), String(seconds), String(warmUp)]
    if (token !== undefined) args.push(token)
    const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    let output = ''
    child.stdout.on('data', (chunk) => {
      output += chunk
    })
    child.once('exit', (code) => {
      if (code !== 0) reject(new Error(`the load ended with ${code}`))
      else resolve(JSON.parse(output))
    })
    child.stdin.end(requests.map((request) => JSON.stringify(request)).join('\n'))
  })
}

/** Resident memory of a process in MiB. */
export function rss(pid) {
  const kib = Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1])
  return Math.round(kib / 1024)
}
