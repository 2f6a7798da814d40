// Closed-loop load over a Unix socket, in a process of its own: CONNECTIONS connections, one request in flight on each.
// argv: socket, connections, seconds, warm-up seconds, and the token each connection presents first, if any. Requests come as JSON lines on stdin, one per connection in turn.
// A line {"cycle":[A,B]} sends A and then B with the reservationId of A's answer, for ever.
// Prints one JSON line: answers, seconds, errors, latency percentiles in microseconds.
import { readFileSync } from 'node:fs'
import net from 'node:net'

const [path, connections, seconds, warmUp] = [process.argv[2], ...process.argv.slice(3, 6).map(Number)]
const token = process.argv[6]
const lines = readFileSync(0, 'utf8').trimEnd().split('\n')
const sockets = []
const latencies = []
let errors = 0
let measuring = false
let stopped = false
let answers = 0

for (let index = 0; index < connections; index++) {
  const { cycle } = JSON.parse(lines[index % lines.length])
  const request = Buffer.from(
    `${cycle === undefined ? lines[index % lines.length] : JSON.stringify(cycle[0])}\n`,
  )
  const follow =
    cycle === undefined
      ? null
      : (id) => `${JSON.stringify({ ...cycle[1], params: { ...cycle[1].params, reservationId: id } })}\n`
  let next = request
  const socket = net.connect(path)
  let sentAt = 0
  let answered = true
  let greeting = token !== undefined
  socket.on('data', (chunk) => {
    if (answered) {
      answered = false
      // Errors are told by their first bytes: {"jsonrpc":"2.0","id":1,"error"
      if (chunk.indexOf('"error"') !== -1 && chunk.indexOf('"error"') < 64) errors++
    }
    if (chunk[chunk.length - 1] !== 10) return
    if (greeting) {
      greeting = false
      sentAt = performance.now()
      socket.write(request)
      return
    }
    if (measuring) {
      answers++
      latencies.push(performance.now() - sentAt)
    }
    if (stopped) return
    answered = true
    if (follow !== null) {
      const id =
        next === request ? /"reservationId":"([^"]+)"/.exec(chunk.toString('latin1'))?.[1] : undefined
      next = id === undefined ? request : follow(id)
    }
    sentAt = performance.now()
    socket.write(next)
  })
  socket.on('error', (error) => {
    if (!stopped) throw error
  })
  socket.on('connect', () => {
    sentAt = performance.now()
    const hello = { jsonrpc: '2.0', id: 0, method: 'session.hello', params: { token } }
    socket.write(greeting ? `${JSON.stringify(hello)}\n` : request)
  })
  sockets.push(socket)
}

setTimeout(() => {
  measuring = true
  const from = performance.now()
  setTimeout(() => {
    measuring = false
    stopped = true
    const took = (performance.now() - from) / 1000
    latencies.sort((a, b) => a - b)
    const at = (share) =>
      Math.round(
        1000 * (latencies[Math.min(latencies.length - 1, Math.floor(share * latencies.length))] ?? 0),
      )
    const figures = {
      answers,
      seconds: took,
      perSecond: answers / took,
      errors,
      p50: at(0.5),
      p99: at(0.99),
      p999: at(0.999),
      max: at(1),
    }
    process.stdout.write(`${JSON.stringify(figures)}\n`)
    for (const socket of sockets) socket.destroy()
  }, seconds * 1000)
}, warmUp * 1000)
