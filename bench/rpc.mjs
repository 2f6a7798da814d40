import net from 'node:net'
import { readLines } from './lines.mjs'

/** A connection for setting up a bench: calls one after the other or at once, matched by id. */
export function connect(path) {
  const socket = net.connect(path)
  const waiting = new Map()
  let nextId = 1
  readLines(socket, (line) => {
    const answer = JSON.parse(line)
    const { resolve, reject } = waiting.get(answer.id)
    waiting.delete(answer.id)
    if (answer.error) reject(new Error(JSON.stringify(answer.error)))
    else resolve({ result: answer.result, bytes: line.length + 1 })
  })
  return {
    call: (method, params = {}) =>
      new Promise((resolve, reject) => {
        const id = nextId++
        waiting.set(id, { resolve, reject })
        socket.write(`${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`)
      }),
    close: () => socket.destroy(),
  }
}

/** A credential of the exchange's form; private keys count up from the first. */
export function credential(index) {
  const bytes = Buffer.alloc(32)
  bytes.writeUInt32BE(index + 1, 28)
  return {
    apiKey: `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`,
    apiSecret: `${bytes.toString('base64url')}=`,
    passphrase: bytes.toString('hex'),
    privateKey: `0x${bytes.toString('hex')}`,
  }
}
